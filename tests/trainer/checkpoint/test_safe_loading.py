"""Loading a checkpoint or data runs no code in it."""

import json
import os
import pickle
import shutil

import pytest
import torch
from torch.distributed.checkpoint import metadata as dcp

from trainer import sample
from trainer.checkpoint import layout, read, write
from trainer.checkpoint.run_files import runs_in
from trainer.checkpoint.shard_metadata import SafeReader
from trainer.data.dataset import Dataset
from trainer.train import main


class Harm:
    """Unpickled, it creates the file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.fixture(scope="module")
def trained(flags, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert main(flags(folder, checkpoint_format="sharded")) == 0
    return folder


@pytest.fixture
def out(trained, tmp_path):
    """A run with sharded checkpoints."""
    return shutil.copytree(trained, tmp_path / "out", symlinks=True)


def latest(out):
    (run,) = runs_in(out)
    return layout.find(run.folder, "latest")


def sealed_again(folder):
    """Update the digests, as an attacker who can write into the folder would."""
    (folder / "manifest.json").unlink()
    write.seal(folder)


def replace_metadata(folder, data):
    (folder / ".metadata").write_bytes(data)
    sealed_again(folder)


def harmful(folder, proof):
    """Pickles that would create the file `proof`, in different places of the metadata."""
    whole = pickle.loads((folder / ".metadata").read_bytes())
    yield "alone", pickle.dumps(Harm(proof))
    for name in ("planner_data", "storage_data", "state_dict_metadata", "version"):
        changed = pickle.loads(pickle.dumps(whole))
        setattr(changed, name, Harm(proof))
        yield name, pickle.dumps(changed)
    yield "protocol 0", pickle.dumps(Harm(proof), protocol=0)
    # a reduction of an allowed class, with a forbidden argument
    yield "global", b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR."
    program = f'open("{proof}", "w").close()'
    yield "builtins", f"cbuiltins\nexec\n(S'{program}'\ntR.".encode()


def test_malicious_metadata_runs_no_code_and_is_an_error(out, flags, tmp_path, capsys):
    proof, folder = tmp_path / "proof", latest(out)
    whole = (folder / ".metadata").read_bytes()
    for what, data in harmful(folder, proof):
        replace_metadata(folder, data)
        for journal in out.glob("*.jsonl"):  # its digest would tell
            journal.unlink()
        capsys.readouterr()

        assert main(flags(out, resume_from=folder, max_iters=20)) == 1, what

        assert f"{folder / '.metadata'}: not the metadata of a checkpoint" in (
            capsys.readouterr().err
        )
        with pytest.raises(ValueError, match="metadata"):
            read.load(folder)
        assert not proof.exists(), what
    replace_metadata(folder, whole)
    assert read.load(folder)["iter_num"] == 12


def test_unpickling_the_malicious_metadata_would_run_its_code(out, tmp_path):
    proof = tmp_path / "proof"
    for what, data in harmful(latest(out), proof):
        pickle.loads(data)

        assert proof.exists(), what
        proof.unlink()


def test_sample_runs_no_code_of_malicious_metadata(out, tmp_path, capsys):
    folder = latest(out)
    replace_metadata(folder, pickle.dumps(Harm(tmp_path / "proof")))

    assert sample.main([f"--out_dir={out}", "--device=cpu"]) == 1

    assert "not the metadata of a checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "proof").exists()


def test_an_entry_that_torch_would_unpickle_is_an_error(out, tmp_path):
    """Torch loads what is stored as bytes with weights_only=False."""
    folder = latest(out)
    whole = pickle.loads((folder / ".metadata").read_bytes())
    key = next(iter(whole.state_dict_metadata))
    whole.state_dict_metadata[key] = dcp.BytesStorageMetadata()
    part = whole.storage_data[next(k for k in whole.storage_data if k.fqn == key)].relative_path
    torch.save(Harm(tmp_path / "proof"), folder / part)
    replace_metadata(folder, pickle.dumps(whole))

    with pytest.raises(ValueError, match="BytesStorageMetadata"):
        read.load(folder)
    assert not (tmp_path / "proof").exists()


def test_a_file_outside_of_the_folder_is_not_read(out, tmp_path):
    folder = latest(out)
    whole = pickle.loads((folder / ".metadata").read_bytes())
    part = next(iter(whole.storage_data.values())).relative_path
    shutil.copy(folder / part, tmp_path / "elsewhere")
    for place in whole.storage_data.values():
        place.relative_path = os.path.relpath(tmp_path / "elsewhere", folder)
    replace_metadata(folder, pickle.dumps(whole))

    with pytest.raises(ValueError, match="a file outside of the folder"):
        read.load(folder)


def test_loading_cannot_change_a_class(out):
    """BUILD with a slot state would set attributes of the class itself."""
    folder = latest(out)
    data = b"ctorch.distributed.checkpoint.metadata\nStorageMeta\n(N}S'save_id'\nS'x'\nstb."
    replace_metadata(folder, data)

    with pytest.raises(ValueError, match="an object that it did not create"):
        SafeReader(folder).read_metadata()
    assert dcp.StorageMeta.save_id is None


@pytest.mark.parametrize("part", ["ckpt.pt", "meta.pt", "__0_0.distcp"])
def test_pickles_in_the_other_files_of_a_checkpoint_run_no_code(part, flags, tmp_path):
    format = "full" if part == "ckpt.pt" else "sharded"
    main(flags(tmp_path / "out", checkpoint_format=format))
    (run,) = runs_in(tmp_path / "out")
    path = layout.find(run.folder, "latest")
    file = path if part == "ckpt.pt" else path / part
    torch.save({"format": 2, "model": Harm(tmp_path / "proof")}, file)
    if path.is_dir():
        sealed_again(path)

    with pytest.raises((ValueError, BaseException)):
        read.load(path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    "file",
    [
        "../../elsewhere",
        pytest.param("/etc/passwd", marks=pytest.mark.slow),
        pytest.param("a/b", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_cannot_name_a_journal_elsewhere(file, flags, tmp_path):
    main(flags(tmp_path / "out"))
    (run,) = runs_in(tmp_path / "out")
    state = torch.load(run.folder / "ckpt.pt", weights_only=True)
    for fields in ({"journal": {**state["journal"], "file": f"{file}.jsonl"}, "run": None},
                 {"run": {"stem": file, "run_id": None}}):  # fmt: skip
        torch.save(state | fields, tmp_path / "out" / "loose.pt")
        shutil.rmtree(tmp_path / "new", ignore_errors=True)

        assert main(flags(tmp_path / "new", resume_from=tmp_path / "out" / "loose.pt")) == 0

        assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "out"]
        assert len(list((tmp_path / "new").glob("run_*.jsonl"))) == 1


@pytest.mark.parametrize("entry", [{"../x": {"size_bytes": 1, "sha256": "0"}}, {"meta.pt": 3}, []])
def test_an_invalid_manifest_is_an_error(entry, out):
    folder = latest(out)
    (folder / "manifest.json").write_text(json.dumps(entry))

    with pytest.raises(ValueError, match="not a list of the folder's files"):
        read.check_manifest(folder)


def test_prepared_data_is_read_without_pickle(flags, tmp_path):
    """Arrays are raw numbers, and what describes them is JSON."""
    argv = flags(tmp_path / "out", data_dir=tmp_path / "data", max_iters=1)
    main(argv)
    (folder,) = (path for path in (tmp_path / "data").iterdir() if path.is_dir())
    for name in ("meta.json", "tokenizer.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Harm(tmp_path / "proof")))
        with pytest.raises(ValueError):  # noqa: PT011 (json's own, of any text)
            Dataset.open(folder, block_size=8)
        (folder / name).write_bytes(data)

    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("checkpoint_format", ["full", "sharded"])
def test_a_fifo_in_place_of_a_checkpoint_is_refused_and_not_waited_for(
    flags, tmp_path, checkpoint_format
):
    out = tmp_path / "out"
    assert main(flags(out, checkpoint_format=checkpoint_format)) == 0
    checkpoint = latest(out)
    for path in [checkpoint] if checkpoint.is_file() else sorted(checkpoint.iterdir()):
        path.unlink()
        os.mkfifo(path)

    with pytest.raises(ValueError, match="is a FIFO, not a regular file"):
        read.load(checkpoint)
