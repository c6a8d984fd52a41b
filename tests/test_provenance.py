import importlib
import sys

import pytest

from jclip_adapter import provenance


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own: a imports b inside a function, b imports c relatively, d stands alone."""
    root = tmp_path / "toy_package"
    (root / "inner").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "a": "def run():\n    from toy_package.inner.b import number\n    return number\n",
        "inner/__init__": "",
        "inner/b": "from ..c import number\nimport json\n",
        "c": "number = 1\n",
        "d": "other = 1\n",
    }.items():
        (root / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(provenance, "PACKAGE", "toy_package")
    importlib.invalidate_caches()
    provenance.code_digest.cache_clear()
    yield root
    provenance.code_digest.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_package"]:
        del sys.modules[name]


@pytest.mark.parametrize(("file", "matters"), [("a", True), ("inner/b", True), ("c", True), ("d", False)])
def test_only_what_is_imported_changes_the_digest(package, file, matters):
    before = provenance.code_digest("toy_package.a")
    assert provenance.code_digest("toy_package.a") == before
    with (package / f"{file}.py").open("a") as source:
        source.write("more = 2\n")
    provenance.code_digest.cache_clear()
    assert (provenance.code_digest("toy_package.a") != before) is matters


def test_a_method_depends_on_what_it_shares():
    known = {name for name in ("gda", "lp_plus_plus", "zero_shot")}
    digests = {provenance.code_digest(f"jclip_adapter.methods.{name}") for name in known}
    assert len(digests) == 3
