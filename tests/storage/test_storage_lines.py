"""Reading lines: what ends a line and what does not."""

from jclip_adapter.storage import read_lines


def test_only_line_feeds_and_carriage_returns_end_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa\u2028b\r\n\nc\x85d\re".encode())
    assert read_lines(path) == ["a\u2028b", "", "c\x85d", "e"]
    path.write_bytes(b"")
    assert read_lines(path) == []
    path.write_bytes(b"a\n")
    assert read_lines(path) == ["a"]
