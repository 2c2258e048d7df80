"""The command of scores by protocol: what it records, what it refuses, and records from before there were protocols."""

import json

import pytest

from fairseq_powernorm.scoring.bleu import main, read_score, score
from fairseq_powernorm.scoring.protocols import PROTOCOLS


@pytest.fixture
def files(tmp_path):
    """A translation and its reference, as the command's options name them."""
    (tmp_path / "good").write_text("The well-known cat sat on a mat .\nA dog saw it from there .\n")
    (tmp_path / "reference").write_text("The well-known cat sat on the mat .\nThe dog saw it from there .\n")
    return {name: tmp_path / name for name in ("good", "reference")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_command_records_the_protocol(tmp_path, files, capsys, protocol):
    output = tmp_path / "score.json"
    arguments = ["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), "--output", str(output)]
    main([*arguments, "--protocol", protocol])
    recorded = read_score(output)
    assert recorded == score(files["good"], files["reference"], protocol=protocol)
    assert (recorded.protocol, recorded.settings) == (protocol, PROTOCOLS[protocol])
    assert (recorded.chrf is None) == (recorded.chrf_signature is None) == ("detokenized" not in protocol)
    assert ("chrF2" in capsys.readouterr().out) == ("detokenized" in protocol)


def test_settings_of_a_protocol_are_that_protocol(files):
    pair = files["good"], files["reference"]
    assert score(*pair) == score(*pair, protocol="detokenized")
    assert score(*pair, lowercase=True) == score(*pair, protocol="detokenized-lowercase")
    assert score(*pair, tokenize="none").protocol is None  # smoothed, so not multi-bleu.perl


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "tokenized", "--lowercase"], "protocol tokenized and lowercase are given"),
        (["--protocol", "tokenized", "--tokenize", "13a"], "protocol tokenized and tokenizer 13a are given"),
        (["--protocol", "moses"], "protocol 'moses' is unknown; known are detokenized, .*, compounds"),
    ],
)
def test_protocols_that_are_refused(tmp_path, options, message):
    output = tmp_path / "score.json"
    with pytest.raises(ValueError, match=message):
        main(["--hypothesis", "h", "--reference", "r", "--output", str(output), *options])
    assert not output.exists()


def test_a_score_from_before_there_were_protocols_has_its_signatures(tmp_path, files):
    output = tmp_path / "score.json"
    for options, protocol in (
        ([], "detokenized"),
        (["--lowercase"], "detokenized-lowercase"),
        (["--tokenize", "none"], None),
    ):
        arguments = ["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), *options]
        main([*arguments, "--output", str(output), "--force"])
        record = json.loads(output.read_text())
        assert record.pop("protocol") == protocol
        output.write_text(json.dumps(record))
        assert read_score(output).protocol == protocol


@pytest.mark.parametrize(
    ("protocol", "message"), [("moses", "protocol 'moses' is unknown"), ("tokenized", "signature .* is of another")]
)
def test_a_score_whose_protocol_is_not_its_signatures_is_refused(tmp_path, files, protocol, message):
    output = tmp_path / "score.json"
    main(["--hypothesis", str(files["good"]), "--reference", str(files["reference"]), "--output", str(output)])
    output.write_text(json.dumps(json.loads(output.read_text()) | {"protocol": protocol}))
    with pytest.raises(ValueError, match=f"score.json: .*{message}"):
        read_score(output)
