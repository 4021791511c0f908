import json

import pytest

pytest.importorskip("bokeh")


def test_the_command_writes_a_page_beside_text_or_json(rl2, patches, weights_file, tmp_path):
    arguments = ("score", patches / "bright", "--real", patches / "a", "--weights", weights_file)
    code, out, _ = rl2(*arguments, "--report", tmp_path / "out.html")
    assert code == 0
    assert out.endswith(f"Wrote {tmp_path / 'out.html'}\n")
    assert "Images that hold most of RL2" in out
    code, out, _ = rl2(*arguments, "--report", tmp_path / "again.html", "--json")
    assert json.loads(out)["explanation"]["images"]
    assert (tmp_path / "again.html").stat().st_size > 1_000_000
    code, out, err = rl2(*arguments, "--report", tmp_path / "out.pdf")
    assert (code, out) == (2, "")
    assert "A report is an .html file" in err


def test_an_audit_is_written_too(rl2, patches, weights_file, tmp_path):
    command = ("audit", weights_file, "--images", patches, "--ladder", "blank", "--limit", 12)
    code, out, _ = rl2(*command, "--report", tmp_path / "audit.html")
    assert (code, "Audit of" in out) == (0, True)
    assert "Damage to single patches" in (tmp_path / "audit.html").read_text()


def test_a_comparison_is_written_too(rl2, patches, weights_file, tmp_path):
    sides = ("compare", patches / "bright", patches / "b", "--real", patches / "a", "--weights", weights_file)
    code, out, _ = rl2(*sides, "--report", tmp_path / "compare.html")
    assert code == 0
    assert out.endswith(f"Wrote {tmp_path / 'compare.html'}\n")
    assert "Which differ beyond chance" in (tmp_path / "compare.html").read_text()
