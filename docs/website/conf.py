"""Sphinx's settings. The tree that it reads is written by `tree`, the command is ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import docstrings  # noqa: E402

from minicnn import __version__  # noqa: E402

project = "minicnn"
html_title = f"minicnn {__version__}"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "myst_nb", "sphinx_copybutton"]
exclude_patterns = ["**/lesson.py"]

highlight_language = "none"  # what is indented is a formula or a sketch; examples have their >>>
smartquotes = False  # what stands in quotes is often a value to type

# Single backticks in docstrings name objects; those that are no public object stay code.
default_role = "py:obj"
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
python_display_short_literal_types = True
maximum_signature_line_length = 80

myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 3600
nb_merge_streams = True

html_theme = "furo"
html_static_path = [str(HERE / "static")]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def rendered(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring of the house, as docutils wants it."""
    lines[:] = docstrings.to_rst(lines)


def found_by_its_end(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A name like `nn.Sequential` where it is not in scope: the one object that it can be."""
    if node.get("refdomain") != "py" or node.get("reftype") == "mod":
        return None
    domain, target = env.get_domain("py"), node["reftarget"].lstrip(".~")
    ending = f".{target.removeprefix('minicnn.')}"
    fits = {o.node_id: (name, o) for name, o in domain.objects.items() if name.endswith(ending)}
    if len(fits) != 1:
        return None
    ((_, entry),) = fits.values()
    from sphinx.util.nodes import make_refnode

    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode)


def foreign(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Whether a member comes from another library, which a class of ours only inherits from."""
    module = getattr(obj, "__module__", None) or ""
    return True if module.partition(".")[0] in ("matplotlib", "sklearn") else None


def setup(app: Any) -> None:
    """Connect the three rules above."""
    app.connect("autodoc-skip-member", foreign)
    app.connect("autodoc-process-docstring", rendered)
    app.connect("missing-reference", found_by_its_end)
