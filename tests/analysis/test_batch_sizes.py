"""The batch-size study's table and chart."""

import pytest

from fairseq_powernorm.analysis.batch_sizes import main, read_tables

HEADER = "test_set,norm,bleu_mean,bleu_standard_deviation\n"


def write(path, *rows):
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tables(tmp_path):
    large = write(tmp_path / "a table.csv", "flickr,layer,34.0,", "flickr,power,35.5,0.25", "coco,layer,30,")
    small = write(tmp_path / "small.csv", "flickr,layer,33.5,", "flickr,power,35.25,0.5", "coco,layer,29,")
    return [f"512={small}", f"4096={large}"]


def test_the_table_and_the_chart(tables, tmp_path, capsys):
    main([*tables, "--output-prefix", str(tmp_path / "out"), "--title", "captions", "--command", "study"])
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text and "Reproduce: `study`" in text
    assert "| norm | 4096 | 512 |" in text  # the largest first, in whatever order they came
    assert "| power | 35.50 ± 0.25 | 35.25 ± 0.50 |" in text and "| layer | 30.00 | 29.00 |" in text
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "flickr,layer,4096,34.0," and lines[-1] == "coco,layer,512,29.0," and len(lines) == 7
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileExistsError, match="--force"):
        main([*tables, "--output-prefix", str(tmp_path / "out")])


def test_bad_arguments_are_named(tables, tmp_path):
    other = write(tmp_path / "other.csv", "flickr,layer,34.0,", "flickr,batch,35.5,", "coco,layer,30,")
    for arguments, message in (
        ([*tables, "many=x.csv"], "expected TOKENS=TABLE.csv, got many=x.csv"),
        ([tables[0], tables[0]], "512 tokens are given twice"),
        ([tables[0], f"1024={other}"], "table of 1024 tokens has other norms"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tables(arguments)
