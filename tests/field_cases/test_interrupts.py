"""Ctrl-C in a terminal ends every long command within seconds (E1), and nothing is silent for long."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.terminal import Terminal, start
from tests.tiny_contest import WEIGHTS, lay_out

RUNNER = str(ROOT / "runner.py")
CPU = (*WEIGHTS, "--device", "cpu")
PATIENCE_S = 3.0
LOADED_S = 1.0  # what a machine with busier processes than cores may add to it


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = lay_out(tmp_path_factory.mktemp("terminal"), tests=3000)
    rng = np.random.default_rng(0)
    rows, width = 20_000, 512
    features = rng.standard_normal((rows, width)).astype(np.float32)
    np.savez(
        folder / "large.npz",
        classnames=np.array([f"class {number}" for number in range(1000)]),
        text=rng.standard_normal((1000, width)).astype(np.float32),
        train16_x=features[:16_000],
        train16_y=np.arange(16_000) % 1000,
        test_x=features[16_000:],
        test_y=np.arange(4_000) % 1000,
    )
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path, dirs_exist_ok=True))


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


# Arguments, what is waited for, and how many seconds more.
LONG: dict[str, tuple[tuple[str, ...], str, float]] = {
    "encoding": (("--predict", *CPU, "--method", "zero-shot", "--batch-size", "4"), "encoding photos", 1),
    "clip-lora": (("--train", *CPU, "--method", "clip-lora", "--set", "steps_per_shot=500"), "Jittor runs", 3),
    "coop": (("--train", *CPU, "--method", "coop", "--set", "epochs=100000"), "training:", 2),
    "benchmark": (("--benchmark", "--features", "large.npz", "--method", "linear-probe"), "large", 3),
}


@pytest.mark.parametrize("job", LONG)
def test_ctrl_c_ends_a_long_command(job: str, place: Path, terminals: list[Terminal]) -> None:
    """E1: it hung for ever where Jittor's compile pool was alive."""
    arguments, text, more = LONG[job]
    terminal = start([RUNNER, *arguments], place)
    terminals.append(terminal)
    terminal.wait_for(text)
    assert terminal.read(more), terminal.output
    taken = terminal.press_ctrl_c()
    assert terminal.process.returncode == 130, terminal.output
    assert taken < PATIENCE_S + LOADED_S
    assert terminal.output.count(b"stopped") == 1
    assert b"Traceback" not in terminal.output


# Program, and the module behind whose import Ctrl-C is pressed.
IMPORTS = [
    *(("runner.py", name) for name in ("jclip_adapter.cli.entry", "argparse", "jclip_adapter.cli.app")),
    *(("baseline.py", name) for name in ("jclip_adapter.cli.entry", "argparse")),
    *(("runner.py", name) for name in ("jittor_utils.lock", "jittor.extern.corex", "jittor.compile_extern")),
]


@pytest.mark.parametrize(("program", "module"), IMPORTS)
def test_ctrl_c_while_something_is_imported(program: str, module: str, place: Path, terminals: list[Terminal]) -> None:
    """E1: a traceback and status −2 in the first quarter of a second, status 1 while Jittor started."""
    endless = ("--train", "--method", "coop", "--set", "epochs=100000") if program == "runner.py" else ()
    terminal = start(["-X", "importtime", str(ROOT / program), *CPU, *endless], place)
    terminals.append(terminal)
    terminal.wait_for(f" {module}\r\n")
    taken = terminal.press_ctrl_c()
    assert terminal.process.returncode == 130, terminal.output[-2000:]
    assert taken < PATIENCE_S + LOADED_S
    assert b"stopped" in terminal.output
    assert b"Traceback" not in terminal.output


def test_ctrl_c_where_python_ignores_errors(place: Path, terminals: list[Terminal]) -> None:
    """E1: in a callback, such as logging's after a fork, Python prints a traceback and the command goes on."""
    code = (
        "import time\nfrom jclip_adapter.cli import entry\nfrom jclip_adapter.cli.commands import doctor as command\n"
        "class Slow:\n    def __del__(self):\n        print('working', flush=True)\n        time.sleep(20)\n"
        "def doctor(*_):\n    Slow()\n    time.sleep(20)\n"
        "command.run = doctor\nentry.run(['--doctor'])"
    )
    terminal = start(["-c", code], place)
    terminals.append(terminal)
    terminal.wait_for("working")
    assert terminal.press_ctrl_c() < 1.5 + LOADED_S
    assert terminal.process.returncode == 130
    assert terminal.output.replace(b"\r", b"").startswith(b"working\n\nstopped.")


def test_ctrl_c_at_the_very_end(place: Path, terminals: list[Terminal]) -> None:
    """E1: behind the command, while the process ends."""
    code = (
        "import atexit, time; from jclip_adapter.cli.entry import run\n"
        "def slow(): print('ending', flush=True); time.sleep(20)\n"
        "atexit.register(slow); run(['--list'])"
    )
    terminal = start(["-c", code], place)
    terminals.append(terminal)
    terminal.wait_for("ending")
    assert terminal.press_ctrl_c() < PATIENCE_S + LOADED_S
    assert terminal.process.returncode == 130
    assert b"Traceback" not in terminal.output


def test_a_killed_child_does_not_end_the_start_of_jittor(place: Path) -> None:
    """E1: Jittor's handler of ended children left with status 1 ("Maybe out of memory … quick exit") on Ctrl-C.

    A compiler that Ctrl-C has ended, and a child that subprocess kills then, are such children.
    """
    code = (
        "import subprocess\nfrom jclip_adapter import runtime\ngenuine = runtime._end_pool\n"
        "def end(*rest):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n    child.kill()\n    child.wait()\n    genuine(*rest)\n"
        "runtime._end_pool = end\nruntime.start('cpu')\nprint('started')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr


def test_an_error_that_ctrl_c_caused_is_a_stop(place: Path, terminals: list[Terminal]) -> None:
    """E1: what fails since Ctrl-C ended a child, or a library that turns it into an error of its own."""
    code = (
        "import time\nfrom jclip_adapter.cli import entry\nfrom jclip_adapter.cli.commands import doctor as command\n"
        "from jclip_adapter.core.errors import SetupError\n"
        "def doctor(*_):\n    print('working', flush=True)\n"
        "    try:\n        time.sleep(20)\n"
        "    except KeyboardInterrupt:\n        raise SetupError('a kernel could not be compiled.') from None\n"
        "command.run = doctor\nentry.run(['--doctor'])"
    )
    terminal = start(["-c", code], place)
    terminals.append(terminal)
    terminal.wait_for("working")
    assert terminal.press_ctrl_c() < PATIENCE_S + LOADED_S
    assert terminal.process.returncode == 130
    assert b"error:" not in terminal.output


def test_ctrl_c_while_jittors_core_is_compiled(place: Path, tmp_path: Path, terminals: list[Terminal]) -> None:
    """E1: the compilation, in a cache of its own; its processes end too."""
    home = tmp_path / "home"
    terminal = start([RUNNER, "--doctor"], place, JITTOR_HOME=str(home))
    terminals.append(terminal)
    terminal.wait_for("compiles its core")
    assert terminal.read(2), terminal.output
    taken = terminal.press_ctrl_c()
    assert terminal.process.returncode == 130, terminal.output
    assert taken < PATIENCE_S + LOADED_S
    assert b"stopped" in terminal.output
    end = time.monotonic() + 3
    while left := [path for path in Path("/proc").glob("[0-9]*/environ") if _has(path, f"JITTOR_HOME={home}")]:
        assert time.monotonic() < end, left


def _has(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


def test_ctrl_c_saves_the_state_and_names_resume(place: Path, terminals: list[Terminal]) -> None:
    """The state after the last whole epoch is kept, though the last writing was not due yet; it is taken up."""
    command = [RUNNER, "--train", *CPU, "--method", "coop", "--set", "epochs=100000", "--run", "mine"]
    first = start(command, place)
    terminals.append(first)
    first.wait_for("loss")
    first.press_ctrl_c()
    assert first.process.returncode == 130
    assert b"--resume goes on from them" in first.output
    assert (place / "mine" / "checkpoint.safetensors").is_file()
    second = start([*command, "--resume"], place)
    terminals.append(second)
    second.wait_for("going on after epoch")
    second.wait_for("loss")
    second.press_ctrl_c()
    assert second.process.returncode == 130


def test_resume_is_not_named_where_it_does_not_work(place: Path, terminals: list[Terminal]) -> None:
    """A method on features keeps no state."""
    terminal = start([RUNNER, "--train", *CPU, "--set", "epochs=100000"], place)
    terminals.append(terminal)
    terminal.wait_for("shots each")
    terminal.read(1)
    terminal.press_ctrl_c()
    assert terminal.process.returncode == 130
    assert b"--resume" not in terminal.output


def test_a_terminal_is_never_silent_for_long(place: Path, terminals: list[Terminal]) -> None:
    """linear-probe on 1,000 classes took 133 s without a word."""
    terminal = start([RUNNER, "--benchmark", "--features", "large.npz", "--method", "linear-probe"], place)
    terminals.append(terminal)
    terminal.read(25)
    assert terminal.process.poll() is None, terminal.output
    assert max(terminal.gaps[1:]) < 5.0 + LOADED_S
    assert len(terminal.gaps) > 5


def test_what_is_being_done_is_named(place: Path, terminals: list[Terminal]) -> None:
    """Where no bar is open a line tells, and later output takes its place."""
    code = (
        "import time\nfrom jclip_adapter.core.console import doing, streams, print_note\n"
        "with streams(), doing('fitting gda'):\n    time.sleep(6)\n    print_note('done')\n"
    )
    terminal = start(["-c", code], place)
    terminals.append(terminal)
    terminal.end()
    assert "… fitting gda, 4 s" in terminal.output.decode()
    assert b"\r\x1b[Kdone" in terminal.output


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_silences_the_bars_too(quiet: bool, place: Path, terminals: list[Terminal]) -> None:
    """`--quiet` kept the progress bars."""
    terminal = start([RUNNER, "--train", *CPU, *(["--quiet"] if quiet else [])], place)
    terminals.append(terminal)
    assert terminal.end() == 0, terminal.output
    shown = terminal.output.decode()
    assert ("photo/s" in shown) is not quiet
    if quiet:
        assert [line for line in shown.splitlines() if line] == [
            line for line in shown.splitlines() if line.startswith(("run: ", "top-1"))
        ]


def test_every_bar_is_made_in_one_place() -> None:
    """A bar made elsewhere would not know of --quiet."""
    package = ROOT / "jclip_adapter"
    makers = [path.name for path in package.rglob("*.py") if "import tqdm" in path.read_text(encoding="utf-8")]
    assert makers == ["console.py"]


def test_the_test_gives_the_command_the_default_sigint(place: Path, terminals: list[Terminal]) -> None:
    """A test that is run in the background would pass SIG_IGN on, and every command would seem to hang."""
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    terminal = start(["-c", code], place)
    terminals.append(terminal)
    terminal.end()
    assert b"True" in terminal.output
