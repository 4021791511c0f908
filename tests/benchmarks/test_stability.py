from tests.benchmarks.conftest import save, tissue


def test_means_approach_the_value_of_all_images(run, tmp_path):
    clean, real = save(tissue(40), tmp_path / "clean"), save(tissue(30, seed=5), tmp_path / "real")
    picture = tmp_path / "stability.png"
    options = ("--real", real, "--counts", 5, 20, 500, "--repeats", 20, "--plot", picture)
    result = run("stability", clean, *options)
    rows = result["tables"]["clean"]
    assert [row["n"] for row in rows] == [5, 20, 40]
    # Small sets score higher, which debiasing takes away.
    assert rows[0]["RL2"]["mean"] > rows[1]["RL2"]["mean"] > rows[2]["RL2"]["mean"]
    bias = [rows[i]["RL2 debiased"]["mean"] - rows[2]["RL2 debiased"]["mean"] for i in (0, 1)]
    assert abs(bias[0]) < rows[0]["RL2"]["mean"] - rows[2]["RL2"]["mean"]
    assert rows[0]["RL2"]["sd"] > rows[1]["RL2"]["sd"] > rows[2]["RL2"]["sd"] == 0
    assert picture.stat().st_size > 1000
    assert len(result["tables"]) == 2


def test_stable_is_from_where_on_nothing_leaves_the_band(paper):
    def table(*rows):
        return [{"n": n, "RL2": {"mean": mean, "sd": sd}} for n, mean, sd in rows]

    stable_from = paper["stability"].stable_from
    assert stable_from(table((5, 9, 0), (10, 10.5, 0.2), (20, 10, 0)), "RL2") == 5
    # In the band at 5 by chance, out of it at 10: stable from 20 only.
    assert stable_from(table((5, 10, 0), (10, 13, 0), (20, 10.5, 0.2), (40, 10, 0)), "RL2") == 20
    assert stable_from(table((5, 10, 2), (10, 10, 2), (20, 10, 0)), "RL2") is None


def test_draws_are_without_replacement(paper):
    draws = paper["stability"].draws(10, 6, 4, 0)
    assert [len(set(draw.tolist())) for draw in draws] == [6] * 4
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
    assert len(paper["stability"].draws(10, 10, 4, 0)) == 1
