// The weights as the gradient by the input needs them: see convolution.cu.
//
// w is (G, F/G, C/G, KH * KW). For each class of pixels the product has a matrix of C/G rows, whose
// columns are the filters times those taps that the class meets, filled up with zeros to a multiple
// of four, so that a row can be copied in units of 16 bytes. sources[k] says where column k of a
// class comes from within the filters of a group, for the first channel, or is -1.

struct Class {
    int position, positions;
    int tap, depth;
    int weights;
    int unused[3];
};

extern "C" __global__ void turn_weights(const float* __restrict__ w, float* __restrict__ turned,
                                        const int* __restrict__ sources,
                                        const int* __restrict__ classes, int channels, int taps,
                                        int group_from, int group_to) {
    const Class c = reinterpret_cast<const Class*>(classes)[blockIdx.y];
    const int count = channels * c.depth;
    const float* from = w + static_cast<long long>(blockIdx.z) * group_from;
    float* to = turned + static_cast<long long>(blockIdx.z) * group_to + c.weights;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        const int channel = i / c.depth, source = sources[c.tap + i - channel * c.depth];
        to[i] = source < 0 ? 0.0f : from[source + channel * taps];
    }
}
