def test_the_same_command_with_resume_leaves_what_it_has_written(rl2, patches, weights_file, tmp_path):
    out = tmp_path / "real.safetensors"
    command = ["stats", patches / "a", "-o", out, "--weights", weights_file, "--resume", tmp_path / "run"]
    code, said, _ = rl2(*command)
    assert (code, said.startswith(f"Wrote {out}: 8 images")) == (0, True)
    before = out.stat()
    code, said, _ = rl2(*command)
    assert (code, said.startswith(f"{out} has these already: 8 images")) == (0, True)
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    code, _, err = rl2(*command, "--groups", "file")
    assert code == 2
    assert "exists, and is not what this run gives. Choose another name" in err
    code, _, err = rl2(*command[:-2])
    assert code == 2
    assert "real.safetensors exists. Choose another name" in err
    assert out.stat().st_mtime_ns == before.st_mtime_ns
