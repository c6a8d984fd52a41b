"""nvcc, cuBLAS and cuRAND are found wherever they lie, and joined as Jittor wants them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jclip_adapter.cli.commands import doctor
from jclip_adapter.core.errors import SetupError
from jclip_adapter.runtime import planning
from jclip_adapter.runtime.cuda import Cuda
from jclip_adapter.runtime.cuda_toolkit import Toolkit, find_toolkit

NVCC = """\
#!/bin/sh
cat >&2 <<'END'
#$ TOP={root}/bin/..
#$ INCLUDES="-I{root}/bin/../include"
#$ LIBRARIES=  "-L{root}/bin/../lib64/stubs" "-L{root}/bin/../lib64"
END
"""


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)


def toolkit(root: Path, *libraries: str) -> Path:
    """A toolkit with some of cuBLAS, cuRAND and NPP; returns its nvcc."""
    put(root / "include" / "cuda_runtime.h", root / "lib64" / "libcudart.so", root / "lib64" / "stubs" / "libcuda.so")
    for name in libraries:
        put(root / "include" / f"{name}.h", root / "lib64" / f"lib{name}.so", root / "lib64" / f"lib{name}.so.13")
    nvcc = root / "bin" / "nvcc"
    put(nvcc)
    nvcc.write_text(NVCC.format(root=root))
    nvcc.chmod(0o755)
    return nvcc


def package(site: Path, folder: str, *libraries: str) -> None:
    """NVIDIA's PyPI packages below site-packages/nvidia."""
    for name in libraries:
        put(site / "nvidia" / folder / "include" / f"{name.split('.')[0].removeprefix('lib')}.h")
        put(site / "nvidia" / folder / "lib" / name)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, without those of the environment that the tests run in."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *(path for path in sys.path if "site-packages" not in path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    return folder


def test_a_whole_toolkit_is_left_as_it_is(tmp_path: Path, site: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda", "cublas", "curand", "npp")
    found = find_toolkit(str(nvcc), 13)
    assert found.is_whole
    assert found.compiler(tmp_path / "cache") == str(nvcc)
    found.link(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_link_to_nvcc_is_followed_as_jittor_does(tmp_path: Path, site: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda", "cublas", "curand", "npp")
    (tmp_path / "nvcc").symlink_to(nvcc)
    assert find_toolkit(str(tmp_path / "nvcc"), 13).is_whole


def test_a_wrapper_script_is_seen_through(tmp_path: Path, site: Path) -> None:
    nvcc = toolkit(tmp_path / "cuda", "cublas", "curand", "npp")
    wrapper = tmp_path / "bin" / "nvcc"
    put(wrapper)
    wrapper.write_text(f'#!/bin/sh\nexec {nvcc} "$@"\n')
    wrapper.chmod(0o755)
    found = find_toolkit(str(wrapper), 13)
    assert not found.missing
    assert not found.is_whole
    there = Path(found.compiler(tmp_path / "cache")).parent.parent
    found.link(tmp_path / "cache")
    assert (there / "include" / "npp.h").read_text() == "npp.h"  # the toolkit's own
    assert not (there / "lib64" / "libcuda.so").exists()  # a stub, for linking without a driver
    assert Toolkit(str(there / "bin" / "nvcc")).is_whole
    ran = subprocess.run([there / "bin" / "nvcc", "--dryrun"], capture_output=True, text=True, check=True)
    assert f"TOP={tmp_path / 'cuda'}" in ran.stderr


@pytest.mark.parametrize(
    ("major", "folders"),
    [
        (13, {"cu13": ("libcublas.so.13", "libcurand.so.10")}),
        (12, {"cublas": ("libcublas.so.12",), "curand": ("libcurand.so.10",)}),
    ],
)
def test_packages_stand_in_for_what_the_toolkit_lacks(
    major: int, folders: dict[str, tuple[str, ...]], tmp_path: Path, site: Path
) -> None:
    nvcc = toolkit(tmp_path / "cuda")
    for folder, libraries in folders.items():
        package(site, folder, *libraries)
    found = find_toolkit(str(nvcc), major)
    assert not found.missing
    found.link(tmp_path / "cache")
    found.link(tmp_path / "cache")  # a second time changes nothing
    compiler = Path(found.compiler(tmp_path / "cache"))
    assert Toolkit(str(compiler)).is_whole
    assert (compiler.parent.parent / "lib64" / "libcublas.so").resolve().name == f"libcublas.so.{major}"
    limits = (compiler.parent.parent / "include" / "npp.h").read_text()
    assert "#define NPP_MAX_64S LLONG_MAX" in limits


def test_libraries_of_another_cuda_do_not_count(tmp_path: Path, site: Path) -> None:
    package(site, "cublas", "libcublas.so.12")
    package(site, "cu13", "libcurand.so.10")
    found = find_toolkit(str(toolkit(tmp_path / "cuda")), 13)
    assert found.missing == ("cublas",)
    cuda = Cuda(True, "1 device", found.nvcc, (13, 0), toolkit=found)
    assert cuda.obstacle == f"{found.nvcc} lacks cublas.h with libcublas.so, which Jittor needs"
    plan = planning.make_plan("auto", cuda)
    assert (plan.device, plan.reason) == ("cpu", cuda.obstacle)
    with pytest.raises(SetupError, match="pip install nvidia-cublas nvidia-curand"):
        planning.make_plan("cuda", cuda)
    assert "pip install nvidia-cublas" in doctor._cuda(cuda)[0].hint


def test_both_missing_are_named(tmp_path: Path, site: Path) -> None:
    found = find_toolkit(str(toolkit(tmp_path / "cuda", "npp")), 13)
    assert found.missing == ("cublas", "curand")
    assert "cublas.h with libcublas.so and curand.h" in Cuda(True, "", found.nvcc, (13, 0), toolkit=found).obstacle


def test_jittor_is_given_the_joined_toolkit(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "home"))
    package(site, "cu13", "libcublas.so.13", "libcurand.so.10")
    found = find_toolkit(str(toolkit(tmp_path / "cuda")), 13)
    plan = planning.make_plan("cuda", Cuda(True, "1 device", found.nvcc, (13, 0), toolkit=found))
    assert plan.environment["nvcc_path"] == found.compiler(planning.cache_folder())
    assert Path(plan.environment["nvcc_path"]).is_relative_to(tmp_path / "home")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = replace(Toolkit(str(toolkit(tmp_path / "cuda"))), include=(tmp_path / "cuda" / "include",))
    with pytest.raises(SetupError, match=r"cannot write .*JITTOR_HOME"):
        found.link(tmp_path / "cache")
