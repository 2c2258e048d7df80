"""The scripts: help, options, and a whole run from training to the table, twice."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_powernorm.checkpoints.io import load_checkpoint
from fairseq_powernorm.pipeline.command_line import make_parser

SCRIPTS = [
    "ablation_study",
    "average",
    "batch_size_study",
    "benchmark_cuda",
    "curves",
    "figures",
    "prepare_cifar10",
    "prepare_demo",
    "prepare_iwslt14_de_en",
    "prepare_language_model",
    "prepare_multi30k",
    "prepare_parallel_text",
    "prepare_wmt14_en_de",
    "recalibration_study",
]
SCRIPTS += ["reproduce_table1", "run_recipe", "score", "table", "train", "translate"]


def script(commands, root, name, *arguments, **options):
    return commands.run([root / "scripts" / f"{name}.sh", *arguments], **options)


def options_of(verb):
    (subparsers,) = make_parser()._subparsers._group_actions
    return {word for word in subparsers.choices[verb]._option_string_actions if word.startswith("--")}


def test_every_script_is_listed(root):
    assert sorted(path.stem for path in (root / "scripts").glob("*.sh")) == sorted(
        [*SCRIPTS, "common", "slurm_run", "smoothness_study", "train_cifar10"]
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_names_every_option(commands, root, name, tmp_path):
    done = script(commands, root, name, "--help", cwd=tmp_path)
    text = (root / "scripts" / f"{name}.sh").read_text(encoding="utf-8")
    if verb := re.search(r"^powernorm_run (\S+)", text, re.MULTILINE):
        options = options_of(verb[1])
        assert {"--recipe", "--run"} & options and done.returncode == 0 and f"scripts/{name}.sh" in done.stdout
        assert all(option in done.stdout for option in options)
        return
    common = (root / "scripts" / "common.sh").read_text(encoding="utf-8")
    if "prepare_from_archives" in text:  # whose options are those of the scripts that call it
        text += re.search(r"^prepare_from_archives\(\) {.*?^}", common, re.MULTILINE | re.DOTALL)[0]
    labels = re.findall(r"^\s+(--[a-z-]+(?: \| -[a-z-]+)*)\)", text, re.MULTILINE)
    options = {word for label in labels for word in label.split() if word.startswith("--")} - {"--help"}
    taken = re.findall(r"^ *take_options (.*?) -- |^own_switches=\(([^)]*)\)", text, re.MULTILINE | re.DOTALL)
    options |= {f"--{name}" for pair in taken for name in re.findall(r"(?:^|\s)([a-z-]+)", "".join(pair))}
    options |= {"--force", "--dry-run"} if taken else set()
    assert options and done.returncode == 0 and f"scripts/{name}.sh" in done.stdout
    for option in options:
        assert option in done.stdout


def test_training_on_cifar10(commands, root, tmp_path):
    """Its options are those of its module; paths are those of the caller's folder."""
    done = script(commands, root, "train_cifar10", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--record-interval" in done.stdout and "train_cifar10.sh" in done.stdout
    done = script(commands, root, "train_cifar10", "--images", "0", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("train_cifar10.sh: error: --images takes a number")
    assert done.stderr.count("\n") == 1
    done = script(commands, root, "train_cifar10", "--data", "here", cwd=tmp_path)
    message = "error: here has no train.npz; scripts/prepare_cifar10.sh makes it"
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_option_ends_with_one_line(commands, root, name):
    done = script(commands, root, name, "--frobnicate")
    assert done.returncode == 1 and done.stderr == f"{name}.sh: error: unknown option --frobnicate; see --help\n"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("average", [], "--run is missing"),
        ("benchmark_cuda", ["--parts", "norms,nothing"], "no part nothing"),
        ("run_recipe", [], "--recipe is missing"),
        ("table", ["--recipe"], "--recipe needs a value"),
        ("run_recipe", ["--recipe", "--norm", "layer"], "--recipe needs a value"),
        ("reproduce_table1", [], "--recipe is missing"),
        ("run_recipe", ["--recipe", "demo_de_en", "--gpus", "no"], "--gpus takes a number above 0, got no"),
        ("run_recipe", ["--recipe", "x", "--gpus", "1", "--hardware", "cpu"], "--gpus goes with --hardware gpu"),
        ("run_recipe", ["--recipe", "demo_de_en", "--jobs", "many"], "--jobs takes a number above 0, got many"),
        ("prepare_multi30k", ["--force", "--from"], "--from needs a value"),
        ("prepare_parallel_text", [], "--name is missing"),
        ("prepare_demo", ["--name", "", "--force"], "--name takes letters, digits, '.', '_' and '-', got ''"),
        ("prepare_demo", ["--name", "."], "--name takes letters, digits"),
        ("prepare_parallel_text", ["--name", "../x"], "--name takes letters, digits"),
        ("prepare_parallel_text", ["--name", "not_there"], "--from, the folder with the text, is missing"),
        ("prepare_parallel_text", ["--name", "x", "--merges", "0"], "--merges takes a number above 0, got 0"),
        (
            "prepare_parallel_text",
            ["--name", "x", "--subwords", "bpe"],
            "--subwords takes subword-nmt or sentencepiece",
        ),
        ("prepare_parallel_text", ["--name", "x", "--tokenizer", "perl"], "--tokenizer takes none or moses, got perl"),
        ("prepare_parallel_text", ["--name", "x", "--vocabulary", "9"], "--vocabulary goes with --subwords sentencep"),
        (
            "prepare_parallel_text",
            ["--name", "x", "--subwords", "sentencepiece", "--merges", "9"],
            "--merges goes with --subwords subword-nmt",
        ),
        ("curves", [], "--recipe is missing"),
        ("run_recipe", ["--recipe", "demo_de_en", "--norms", ""], "--norms takes names separated by commas, got ''"),
        ("run_recipe", ["--recipe", "demo_de_en", "--norms", "layer,"], "--norms takes names separated by commas"),
        ("run_recipe", ["--recipe", "demo_de_en", "--norms", "layer,layer"], "--norms names one twice"),
        ("run_recipe", ["--recipe", "demo_de_en", "--seeds", "1,2,01"], "--seeds names one twice"),
        ("recalibration_study", ["--recipe", "x", "--batches", "0"], "--batches takes a number above 0, got 0"),
        ("recalibration_study", ["--recipe", "demo_de_en", "--runs", "/no"], "/no/demo_de_en holds no run with runn"),
        ("batch_size_study", ["--recipe", "demo_de_en", "--passes", "0"], "--passes takes numbers above 0"),
        ("batch_size_study", ["--recipe", "demo_de_en", "--passes", "3"], "3 passes do not divide an update of 800"),
    ],
)
def test_missing_values(commands, root, name, arguments, message):
    done = script(commands, root, name, *arguments)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_the_measurements_of_a_cuda_device_as_commands(commands, root):
    """Every benchmark is among them, and every word of them is one that it takes."""
    done = script(commands, root, "benchmark_cuda", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line)[1:] for line in done.stdout.splitlines()]
    names = [line[0] for line in lines]
    for name in ("bench_norms", "bench_train_step", "bench_decode", "tune_triton", "plot"):
        assert f"benchmarks/{name}.py" in names
        text = (root / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        text += (root / "benchmarks" / "interleaved.py").read_text(encoding="utf-8")
        given = {word for line in lines if line[0] == f"benchmarks/{name}.py" for word in line if word.startswith("--")}
        assert given and all(f'"{word}"' in text for word in given)


@pytest.mark.slow
def test_a_measurement_that_fails_keeps_the_others_from_nothing(commands, root, tmp_path):
    words = ["--small", "--device", "cpu:x", "--parts", "decode,tests", "--output", tmp_path]
    done = script(commands, root, "benchmark_cuda", *words)
    assert done.returncode == 1 and "error: not finished: decode;" in done.stderr
    assert "expected --device cpu" in (tmp_path / "decode_cuda.log").read_text(encoding="utf-8")
    assert "deselected" in (tmp_path / "tests_cuda.log").read_text(encoding="utf-8")


@pytest.mark.slow
def test_unknown_names_end_before_anything_starts(commands, root, tmp_path):
    for arguments, message in (
        (["--recipe", "wmt99"], "unknown recipe 'wmt99'"),
        (["--recipe", "smoke_de_en", "--norm", "layer,instance"], "unknown norm 'instance'; known: batch"),
        (["--recipe", "smoke_de_en", "--override", "train.x=1"], "+train.x=1"),
    ):
        done = script(commands, root, "run_recipe", "--runs", tmp_path / "runs", *arguments)
        assert done.returncode == 1 and message in done.stderr and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "recipe", "protocols", "remove_bpe"),
    [
        ([], {"raw": "data/x/text"}, {"protocol": "tokenized"}, "subword_nmt"),
        (
            ["--subwords", "sentencepiece", "--lowercase", "--max-words", "80", "--max-ratio", "1.5"],
            {"raw": "data/x/raw"},
            {"protocol": "detokenized-lowercase"},
            "sentencepiece",
        ),
        (
            ["--tokenizer", "moses", "--lowercase"],
            {"raw": "data/x/raw", "tokenized": "data/x/text", "retokenize": False},
            {"protocol": "tokenized-lowercase", "further": ["detokenized-lowercase"]},
            "subword_nmt",
        ),
    ],
)
def test_a_preparation_ends_with_what_undoes_it(commands, root, options, recipe, protocols, remove_bpe):
    done = script(commands, root, "prepare_parallel_text", "--name", "x", "--target", "fr", "--dry-run", *options)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.partition("for a recipe:\n")[2]
    assert OmegaConf.create(lines) == {
        "recipe": {**recipe, "binarized": "data-bin/x", "source": "de", "target": "fr"},
        "score": protocols,
        "generate": {"remove-bpe": remove_bpe},
    }
    corpus, encode, binarize = (shlex.split(line) for line in done.stdout.splitlines())
    assert corpus[corpus.index("--from") + 1] == "DIR" and set(options) & {"--lowercase"} <= set(corpus)
    assert ("identity" in encode) == (remove_bpe == "sentencepiece") and binarize[-1] == "data/x/preprocess.log"


@pytest.mark.slow
def test_text_in_a_folder_of_whatever_name(commands, root, tmp_path):
    folder = tmp_path / 'it\'s "my" $(touch ran) *text'
    folder.mkdir()
    for split, pairs in {"train": 40, "valid": 3, "test, b": 2, "test 2014": 1}.items():
        for language, word in (("de", "hund"), ("fr", "chien")):
            lines = (f"{word} nummer {number} rennt\n" for number in range(pairs))
            (folder / f"{split}.{language}").write_text("".join(lines), encoding="utf-8")
    name = f"test_of_parallel_text.{tmp_path.parent.parent.name}"
    words = ["--name", name, "--from", folder, "--target", "fr", "--merges", "20"]
    try:
        done = script(commands, root, "prepare_parallel_text", *words)
        assert done.returncode == 0, done.stderr
        assert f"data-bin/{name} is ready" in done.stderr
        made = {path.name for path in (root / "data-bin" / name).iterdir()}
        assert {"dict.de.txt", "dict.fr.txt", "test.de-fr.de.bin", "test1.de-fr.fr.bin"} <= made and "test2" not in made
        assert (root / "data-bin" / name / "test_sets.txt").read_text() == "test 2014\ntest, b\n"
        assert (root / "data" / name / "text" / "test 2014.fr").read_text() == "chien nummer 0 rennt\n"
        again = script(commands, root, "prepare_parallel_text", "--name", name, "--target", "fr")
        assert again.returncode == 0 and "is there already" in again.stderr
        # What would lose the text, or leave the old data beside no text, is refused before anything is removed.
        (folder / "test 2014.fr").write_text("\n", encoding="utf-8")
        cases = {"nowhere": "no such folder", f"data/{name}/text": f"--from lies in data/{name}"}
        for place, message in {**cases, folder: "test 2014.fr, line 1: blank"}.items():
            words = ["--name", name, "--target", "fr", "--force", "--from", root / place]
            refused = script(commands, root, "prepare_parallel_text", *words)
            assert refused.returncode == 1 and message in refused.stderr
            assert (root / "data" / name / "text" / "train.de").exists() and (root / "data-bin" / name).exists()
        assert not (root / "ran").exists() and not (tmp_path / "ran").exists()
    finally:
        for place in ("data", "data-bin"):
            shutil.rmtree(root / place / name, ignore_errors=True)


def test_force_removes_nothing_that_was_given_and_what_a_kill_left_goes(root, tmp_path):
    name = f"test_of_begin_preparation.{tmp_path.parent.parent.name}"
    data = root / "data" / name
    program = f'source scripts/common.sh; bpe_codes=$1; begin_preparation "{name}" true raw bpe'
    try:
        for path in ("raw/text", "bpe/mine", ".de-en.tgz.7.tmp/half"):  # the last as a killed unpacking leaves it
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).touch()
        for given, status in ((data / "bpe" / "mine", 1), ("", 0)):
            done = subprocess.run(["bash", "-c", program, "x", given], cwd=root, capture_output=True, text=True)
            assert done.returncode == status, done.stderr
            assert (data / "bpe" / "mine").exists() == (data / "raw").exists() == (status == 1)
            assert not list(data.glob(".*.tmp")), done.stderr
            assert status == 0 or "bpe, which --force makes again; move it elsewhere first" in done.stderr
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.mark.slow
def test_from_training_to_the_table_and_again(commands, corpus, root, tmp_path):
    runs = tmp_path / 'it\'s "some" $(touch ran) *runs'  # a name, whatever stands in it
    overrides = [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'", "train.max-tokens=600"]
    chosen = [word for override in overrides for word in ("--override", override)]
    arguments = ["--recipe", "smoke_de_en", "--norm", "power", "--runs", runs, *chosen]
    done = script(commands, root, "train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "+ fairseq-train" in done.stderr
    folder = runs / "smoke_de_en" / "power" / "seed1"
    for verb in ("average", "translate", "score"):
        done = script(commands, root, verb, "--run", folder)
        assert done.returncode == 0, done.stderr
    assert "BLEU" in done.stdout and "nrefs:1|case:mixed|eff:no|tok:13a" in done.stdout
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert record["norm"] == "power" and record["updates"] > 20 and record["versions"]["torch"]
    # Again: nothing is done twice, and another configuration does not mix with this one.
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    done = script(commands, root, "train", *arguments)
    assert done.returncode == 0 and "trained already" in done.stderr and "+ fairseq-train" not in done.stderr
    for verb in ("average", "translate", "score"):
        assert script(commands, root, verb, "--run", folder).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    # Killed between the last update and the record: recorded as it is, without one more update.
    (folder / "run.json").unlink()
    done = script(commands, root, "train", *arguments)
    assert done.returncode == 0 and "+ fairseq-train" not in done.stderr
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["updates"] == record["updates"]
    (folder / "run.json").rename(tmp_path / "run.json")
    done = script(commands, root, "train", *arguments, "--override", "train.lr=1")
    assert done.returncode == 1 and "is of another configuration" in done.stderr.splitlines()[-1]
    (tmp_path / "run.json").rename(folder / "run.json")

    other = runs / "smoke_de_en" / "layer" / "seed1"  # a second row, without a second training
    shutil.copytree(folder, other)
    (other / "run.json").write_text(json.dumps({**record, "norm": "layer"}), encoding="utf-8")
    output = tmp_path / 'isn\'t a "table"'
    done = script(commands, root, "table", "--recipe", "smoke_de_en", "--runs", runs, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "| layer (LN) |" in done.stdout and "| power (PN) |" in done.stdout
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert len(output.with_suffix(".csv").read_text(encoding="utf-8").splitlines()) == 3
    assert not list(tmp_path.rglob("ran")) and not (root / "ran").exists()


@pytest.mark.slow
def test_training_without_data_says_how_to_prepare_it(commands, root, tmp_path):
    done = script(
        *(commands, root, "train", "--recipe", "smoke_de_en", "--norm", "power", "--runs", tmp_path),
        *("--override", f"recipe.binarized={tmp_path}/none"),
    )
    assert done.returncode == 1 and "prepare the data first: scripts/prepare_demo.sh" in done.stderr


@pytest.mark.slow
def test_a_training_that_fails_shows_why_and_leaves_no_record(commands, corpus, root, tmp_path):
    done = commands.run(
        [
            *(sys.executable, "-m", "fairseq_powernorm.launch", "train", "--recipe", "smoke_de_en", "--runs", tmp_path),
            *("--override", f"recipe.binarized='{corpus}/bin'", "--override", f"recipe.raw='{corpus}/raw'"),
            *("--override", "train.norm-group-scaling=5"),
        ]
    )
    assert done.returncode == 1 and "5 groups do not divide the encoder's 32 channels" in done.stderr
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.slow
def test_a_sweep_by_hydra_makes_runs_that_the_scripts_know(commands, corpus, root, tmp_path):
    """The first job fails, since its folder holds another run; the others go on."""
    other = tmp_path / "smoke_de_en" / "layer" / "seed1"
    other.mkdir(parents=True)
    (other / "run.json").touch()
    (other / "config.yaml").write_text("norm: {name: batch}\nseed: 1\n")
    overrides = [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'"]
    sweep = [sys.executable, "-m", "fairseq_powernorm.sweep", "--multirun", "recipe=smoke_de_en", "norm=layer,power"]
    done = commands.run([*sweep, *overrides, f"+runs='{tmp_path}'", f"hydra.sweep.dir='{tmp_path}/hydra'"])
    assert done.returncode == 1 and "config.yaml is of another configuration" in done.stdout
    assert (tmp_path / "smoke_de_en" / "power" / "seed1" / "test" / "score.json").exists(), done.stderr
    chosen = [word for override in overrides for word in ("--override", override)]
    arguments = ["--recipe", "smoke_de_en", "--norm", "power", "--runs", tmp_path, *chosen]
    done = script(commands, root, "train", *arguments)
    assert done.returncode == 0 and "trained already" in done.stderr, done.stderr


HOSTILE = {
    **{"SLURM_NODEID": "1", "SLURM_NNODES": "2", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "a,b", "LOCAL_RANK": "3"},
    **{
        "RANK": "3",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "nowhere",
        "MASTER_PORT": "1",
        "PMI_SIZE": "4",
        "PET_NNODES": "4",
    },
    **{"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LOGLEVEL": "ERROR"},
    **{"PYTHONSAFEPATH": "1", "PYTHONOPTIMIZE": "2"},
}


@pytest.mark.slow
def test_the_caller_s_environment_changes_no_result(corpus, root, tmp_path):
    """Schedulers' variables, the locale, the umask, the folder that the caller stands in."""
    overrides = [f"recipe.binarized='{corpus}/bin'", f"recipe.raw='{corpus}/raw'", "train.max-update=20"]
    overrides += ["average.last=2", "recalibrate.batches=2"]
    chosen = [word for override in overrides for word in ("--override", override)]
    results = []
    for name, environment, umask in (("größe", HOSTILE, 0o277), ("plain", {}, 0o022)):
        folder = tmp_path / name
        folder.mkdir()
        for module in ("random", "torch", "fairseq"):
            (folder / f"{module}.py").write_text("raise SystemExit('a module of the caller')\n")
        options = {"cwd": folder, "umask": umask, "env": {**os.environ, "OMP_NUM_THREADS": "1", **environment}}
        options |= {"capture_output": True, "encoding": "utf-8"}
        words = ["--recipe", "smoke_de_en", "--norm", "power", "--runs", "the runs", *chosen]
        done = subprocess.run([root / "scripts" / "train.sh", *words], **options)
        assert done.returncode == 0, done.stderr
        words = [sys.executable, "-P", "-m", "fairseq_powernorm.pipeline", "run", *words]
        options["env"]["PYTHONPATH"] = str(root)
        done = subprocess.run(words, **options)
        assert done.returncode == 0 and "BLEU = " in done.stdout, done.stderr
        run = folder / "the runs" / "smoke_de_en" / "power" / "seed1"
        assert (run / "run.json").stat().st_mode & 0o700 == 0o600
        assert "| train_inner |" in (run / "train.log").read_text(encoding="utf-8")
        model = load_checkpoint(run / "recalibrated.pt")["model"]
        results.append((model, (run / "test" / "hypothesis.txt").read_bytes()))
    (one, translations), (other, others) = results
    assert translations == others and one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
