"""The bars are the table's numbers, and the file is a PNG of a size to look at."""

import io
import struct

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fairseq_powernorm.analysis.bar_chart import COLORS, OTHER_COLOR, Bar, color_of, draw, main, read_bars
from fairseq_powernorm.initialization.schemes import SCHEMES

HEADER = "test_set,norm,seeds,bleu_mean,bleu_standard_deviation,difference\n"
ROWS = "test,layer,1 2,34.5,0.25,\ntest,power,1 2,35.75,0.5,1.25\nvalid,layer,1,36.0,,\n"
BARS = [Bar("test", "layer", 34.5, 0.25), Bar("test", "power", 35.75, 0.5), Bar("valid", "layer", 36.0, None)]


def write_table(folder, text=HEADER + ROWS):
    path = folder / "table.csv"
    path.write_text(text)
    return path


def png_size(path):
    """Width and height from the PNG's header chunk."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[12:16] == b"IHDR"
    assert content[-8:-4] == b"IEND"
    return struct.unpack(">II", content[16:24])


def bar_ends(axes):
    return [patch.get_x() + patch.get_width() for patch in axes.patches]


def test_read_bars_keeps_the_order_of_the_rows(tmp_path):
    assert read_bars(write_table(tmp_path)) == BARS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column test_set, norm"),
        ("test_set,norm,bleu_mean\n", "no column bleu_standard_deviation"),
        (HEADER, "no rows"),
        (HEADER + "test,layer,1,abc,,\n", "line 2: could not convert"),
        (HEADER + ROWS + "test,batch,1,nan,,\n", "line 5: expected a finite number, got nan"),
        (HEADER + "test,layer\n", "line 2"),
    ],
)
def test_a_bad_table_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"table.csv.*{message}"):
        read_bars(write_table(tmp_path, text))


def test_panels_show_the_values():
    figure = draw(BARS, title="A $title$ as it is")
    test, valid = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["test", "valid"]
    assert bar_ends(test) == pytest.approx([34.5, 35.75])
    assert bar_ends(valid) == pytest.approx([36.0])
    assert [text.get_text() for text in test.texts] == ["34.50 ± 0.25", "35.75 ± 0.50"]
    assert [text.get_text() for text in valid.texts] == ["36.00"]
    assert [label.get_text() for label in test.get_yticklabels()] == ["layer", "power"]
    assert figure.get_suptitle() == "A $title$ as it is"


def test_error_bars_are_one_standard_deviation_and_only_where_several_seeds_are():
    test, valid = draw(BARS).axes
    assert [container.has_xerr for container in test.containers if hasattr(container, "has_xerr")] == [True, True]
    segment = test.collections[0].get_segments()[0]
    assert segment[:, 0] == pytest.approx([34.25, 34.75])
    assert not valid.collections
    assert "one standard deviation" in valid.get_xlabel()
    assert draw(BARS[2:]).axes[0].get_xlabel() == "BLEU"


def test_bars_start_at_zero():
    assert draw(BARS).axes[0].get_xlim()[0] == 0


def test_colors_belong_to_norms_not_to_places():
    assert len({*COLORS.values(), OTHER_COLOR}) == len(COLORS) + 1
    for norm in (*COLORS, "another"):
        figures = [draw(bars) for bars in ([Bar("t", norm, 1, None)], [*BARS[:2], Bar("test", norm, 1, None)])]
        assert figures[0].axes[0].patches[0].get_facecolor() == figures[1].axes[0].patches[-1].get_facecolor()


def test_everything_is_inside_the_figure():
    bars = [Bar("test", "power-released", 100.0, 10.0), Bar("test", "layer", 99.0, 10.0), Bar("valid", "a", 0.0, None)]
    figure = draw(bars, title="A title")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    labels = [text for axes in figure.axes for text in (*axes.texts, *axes.get_yticklabels(), axes.xaxis.label)]
    for text in labels:
        box = text.get_window_extent(renderer)
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.width, text
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.height, text


def test_all_zero_bars_can_be_drawn():
    draw([Bar("test", "layer", 0.0, None)]).savefig(io.BytesIO(), format="png")


def test_command_writes_a_png(tmp_path):
    table, output = write_table(tmp_path), tmp_path / "figures" / "table.png"
    main(["--table", str(table), "--output", str(output), "--title", "BLEU"])
    width, height = png_size(output)
    assert width == 7 * 150
    assert 300 < height < 1000
    assert 5_000 < output.stat().st_size < 500_000
    assert [path.name for path in output.parent.iterdir()] == ["table.png"]
    with pytest.raises(FileExistsError, match=r"table.png exists"):
        main(["--table", str(table), "--output", str(output)])
    main(["--table", str(table), "--output", str(output), "--force"])


def test_command_writes_nothing_but_png(tmp_path):
    with pytest.raises(ValueError, match=r"table.pdf, expected a name that ends in .png"):
        main(["--table", str(write_table(tmp_path)), "--output", str(tmp_path / "table.pdf")])


def test_every_initialization_has_a_colour_of_its_own():
    colors = [color_of(name) for name in (*SCHEMES, "layer", "power")]
    assert len(set(colors)) == len(colors)
    assert color_of("power+deepnet") == color_of("deepnet") and color_of("power-plain") == color_of("power")
