import importlib
import sys

import pytest

from jclip_adapter.evaluation import provenance


def forget():
    provenance.code_digest.cache_clear()
    provenance._read.cache_clear()


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
    forget()
    yield root
    forget()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_package"]:
        del sys.modules[name]


@pytest.mark.parametrize(("file", "matters"), [("a", True), ("inner/b", True), ("c", True), ("d", False)])
def test_only_what_is_imported_changes_the_digest(package, file, matters):
    before = provenance.code_digest("toy_package.a")
    assert provenance.code_digest("toy_package.a") == before
    with (package / f"{file}.py").open("a") as source:
        source.write("more = 2\n")
    forget()
    assert (provenance.code_digest("toy_package.a") != before) is matters


@pytest.mark.parametrize(
    ("old", "new", "matters"),
    [
        ("number = 1", "number = 1  # one", False),
        ("number = 1", '"""A number."""\n\nnumber = 1', False),
        ("number = 1", "number   =   1\n\n\n", False),
        ("number = 1", "number = 1.0", True),
        ("number = 1", 'number = 1\n"""not at the top"""', True),
    ],
)
def test_only_arithmetic_changes_the_digest(package, old, new, matters):
    before = provenance.code_digest("toy_package.a")
    path = package / "c.py"
    path.write_text(path.read_text().replace(old, new))
    forget()
    assert (provenance.code_digest("toy_package.a") != before) is matters


@pytest.mark.parametrize(
    ("method", "package_name", "matters"),
    [
        ("linear_probe", "sklearn", True),
        ("linear_probe", "numpy", True),
        ("zero_shot", "sklearn", False),
        ("clip_adapter", "jittor", True),
        ("tip_adapter", "matplotlib", False),
    ],
)
def test_another_version_of_a_package_in_use_changes_the_digest(method, package_name, matters, monkeypatch):
    module = f"jclip_adapter.methods.{method}"
    before = provenance.code_digest(module)
    real = provenance._version
    monkeypatch.setattr(provenance, "_version", lambda name: real(name) + "x" * (name == package_name))
    forget()
    assert (provenance.code_digest(module) != before) is matters
    monkeypatch.undo()
    forget()


def test_a_method_depends_on_what_it_shares():
    known = {name for name in ("gda", "lp_plus_plus", "zero_shot")}
    digests = {provenance.code_digest(f"jclip_adapter.methods.{name}") for name in known}
    assert len(digests) == 3


def test_a_module_that_was_renamed_is_not_passed_over():
    with pytest.raises(ModuleNotFoundError, match=r"jclip_adapter\.metrics"):
        provenance.code_digest("jclip_adapter.metrics")
