"""Decodes photos in order, in threads or child processes.

Threads start immediately but share the GIL with each other and with Jittor, which holds it while it computes: they suit
few photos, or a processor whose few cores CLIP uses anyway. Child processes decode while CLIP computes on a GPU or on
some of many cores.

A child process has two pipes: a line of JSON per chunk of jobs in, a header and the pixels per photo out. Rejected:
pools of multiprocessing and loky, where forked children copy Jittor's threads, spawned ones run the caller's script
again, a killed child leaves the parent waiting forever, and children survive a killed parent. Here a closed pipe ends
either side.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TypeVar

import numpy as np

from jclip_adapter.core.errors import SetupError

from .decode import Decoded, Job, try_square

J = TypeVar("J")
R = TypeVar("R")
_CHUNK = 8  # photos per request to a child
_AHEAD = 8  # chunks requested from a child in advance: two batches of CLIP on the CPU
_HEADER = struct.Struct("<?I")  # whether the photo could be read, and the number of bytes that follow
_DIGEST = 32
_PATIENCE_S = 5.0
_MOST = 8  # threads, or children by default: enough for any GPU
_FEW_PHOTOS = 256  # threads decode as many while children start
_FEW_CORES = 4  # with as many cores that CLIP also uses, children are not faster


def decode(jobs: Sequence[Job], workers: int, device: str) -> Iterator[Decoded]:
    """Decode photos.

    Args:
        jobs: The photos.
        workers: Child processes; 0 for threads, −1 chooses the faster.
        device: CLIP's device, "cpu" or "cuda".

    Yields:
        The result of `try_square` for each job, in order.

    Raises:
        SetupError: a child could not be started, or was killed.
    """
    if workers < 0:
        small = len(jobs) <= _FEW_PHOTOS or (device == "cpu" and cores() <= _FEW_CORES)
        workers = 0 if small else min(_MOST, cores())
    return decode_in_children(jobs, workers) if workers else in_threads(try_square, jobs)


def cores() -> int:
    """Number of cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def in_threads(read: Callable[[J], R], jobs: Iterable[J], waiting: int = 0) -> Iterator[R]:
    """The results of a function that reads files, in order: in threads, some files in advance.

    Args:
        read: The function.
        jobs: Its arguments.
        waiting: Threads beside one per core, for functions that also wait for the disk.
    """
    threads = ThreadPoolExecutor(min(_MOST, cores()) + waiting)
    ahead: collections.deque[Future[R]] = collections.deque()
    try:
        for job in jobs:
            ahead.append(threads.submit(read, job))
            if len(ahead) == _CHUNK * _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def decode_in_children(jobs: Sequence[Job], count: int) -> Iterator[Decoded]:
    """`decode` in child processes."""
    chunks = [jobs[first : first + _CHUNK] for first in range(0, len(jobs), _CHUNK)]
    count = min(count, len(chunks))
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(_Child()) for _ in range(count)]
        # Chunk i goes to child i modulo count, so that answers are in order.
        for number, chunk in enumerate(chunks[: _AHEAD * count]):
            children[number % count].ask(chunk)
        for number, chunk in enumerate(chunks):
            child = children[number % count]
            for job in chunk:
                yield child.answer(job)
            if number + _AHEAD * count < len(chunks):
                child.ask(chunks[number + _AHEAD * count])


class _Child:
    """One decoding process, ended by its `with` block."""

    def __init__(self) -> None:
        # The parent's sys.path, as -c would put the working directory first.
        code = f"import sys; sys.path[:] = {sys.path!r}; from jclip_adapter.data.photos.decoders import serve; serve()"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # the parent handles Ctrl-C
            )
        except OSError as error:
            raise SetupError(
                f"no decoding process can be started ({error.strerror or error}).", "Give fewer --workers, or 0."
            ) from error
        assert self._process.stdin is not None  # noqa: S101  (for the type checker)
        assert self._process.stdout is not None  # noqa: S101
        self._questions: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._questions.close()  # ends the child
        self._answers.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()

    def ask(self, chunk: Sequence[Job]) -> None:
        try:
            self._questions.write(json.dumps([job.as_json() for job in chunk]).encode() + b"\n")
            self._questions.flush()
        except OSError as error:
            raise self._gone() from error

    def answer(self, job: Job) -> Decoded:
        number, size = job.number, job.size
        readable, length = _HEADER.unpack(self._read(_HEADER.size))
        body = self._read(length)
        if not readable:
            return number, b"", body.decode("utf-8", "surrogatepass")
        return number, body[:_DIGEST], np.frombuffer(body, np.uint8, offset=_DIGEST).reshape((size, size, 3))

    def _read(self, count: int) -> bytes:
        data = self._answers.read(count)
        if len(data) < count:
            raise self._gone()
        return data

    def _gone(self) -> SetupError:
        return SetupError(
            "a decoding process was killed, perhaps for lack of memory.",
            "Run the command again with fewer --workers; encoded features are kept.",
        )


def serve() -> None:
    """The child process: answers requests from stdin on stdout, until stdin ends."""
    chunks: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            chunks.put([Job.from_json(values) for values in json.loads(line)])
        os._exit(0)  # the parent has finished or was killed

    answers: queue.Queue[bytes] = queue.Queue(_CHUNK * _AHEAD)

    def write() -> None:
        try:
            while True:
                sys.stdout.buffer.write(answers.get())
                sys.stdout.buffer.flush()
        except OSError:
            os._exit(0)

    # In threads: otherwise parent and child could deadlock on full pipes; and as a pipe holds less than a photo's
    # pixels, the child would block while CLIP encodes.
    threading.Thread(target=listen, daemon=True).start()
    threading.Thread(target=write, daemon=True).start()
    while True:
        for job in chunks.get():
            _, digest, result = try_square(job)
            readable = not isinstance(result, str)
            body = result.encode("utf-8", "surrogatepass") if isinstance(result, str) else digest + result.tobytes()
            answers.put(_HEADER.pack(readable, len(body)) + body)
