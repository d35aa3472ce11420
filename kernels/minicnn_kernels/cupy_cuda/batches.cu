// A batch of training images, cut out of a data set that lives in the GPU's memory.
//
// Bringing a batch of floats from the CPU takes longer than many a small network needs for it. The
// pixels of Fashion-MNIST are 47 MB as bytes, so the whole data set can lie here, and what comes
// from the CPU for each image is four numbers: which one, and where its window lies.
//
// Each thread makes one number of the result: image n, channel c, row i, column j. It reads the byte
//
//     images[index[n]][c][top + i][start + step * j]
//
// Mirroring is step = -1 with start at the right edge. A place outside the image is 0, as in an
// image padded with zeros, or, with `reflect`, the pixel as far inside the border as the place is
// outside (the border pixel itself is not doubled: row -1 is row 1).
//
// Scaling to 0..1 and normalising are the same for all pixels of one value, and there are 256
// values: so both are one look into a table of 256 floats a channel, computed once on the CPU by the
// very code that prepares batches there. The results are equal to the bit. Neighbouring threads take
// neighbouring columns, so writes are joined; the table stays in the cache.

struct Placement {
    int top, start, step;
};

__device__ inline int folded(int at, int length) {
    if (at < 0) at = -at;
    return at < length ? at : 2 * (length - 1) - at;
}

extern "C" __global__ void gather_images(
    const unsigned char* __restrict__ images, const long long* __restrict__ index,
    const int* __restrict__ placement, const float* __restrict__ table, float* __restrict__ y,
    long long total, int channels, int height, int width, int rows, int columns, int reflect) {
    long long stride = (long long)gridDim.x * blockDim.x;
    for (long long k = (long long)blockIdx.x * blockDim.x + threadIdx.x; k < total; k += stride) {
        int j = (int)(k % columns);
        int i = (int)(k / columns % rows);
        int c = (int)(k / columns / rows % channels);
        long long n = k / columns / rows / channels;
        Placement at = {placement[3 * n], placement[3 * n + 1], placement[3 * n + 2]};
        int row = at.top + i, column = at.start + at.step * j;
        if (reflect) {
            row = folded(row, height);
            column = folded(column, width);
        }
        int pixel = 0;
        if (row >= 0 && row < height && column >= 0 && column < width)
            pixel = images[((index[n] * channels + c) * height + row) * width + column];
        y[k] = table[256 * c + pixel];
    }
}
