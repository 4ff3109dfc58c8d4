"""ONNX models in and out: the same model but for its weights, compared before it is written, nothing outside read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mess
from independent_decoder import decode
from mess import codec
from mess.cli import main
from mess.errors import CheckpointError, FormatError, OptionError, WeightsError
from mess.export import export
from mess.graphs.looking import make_fit
from mess.graphs.model_files import read_taken
from mess.graphs.network import GraphNetwork
from mess.graphs.state_names import TAKEN, StateNames
from mess.graphs.tensors import put_back, take_out
from onnx_networks import (
    TensorProto,
    answers,
    classifier,
    helper,
    initialiser,
    model,
    node,
    numpy_helper,
    onnx,
    random,
    value,
    without_numbers,
)

PICTURES = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
FAST = {"calibration": PICTURES, "verify": False}


def saved(folder: Path, made: object, name: str = "model.onnx") -> Path:
    onnx.save(made, folder / name)
    return folder / name


def back(path: Path) -> bytes:
    return export(path, path.with_suffix(".onnx")).path.read_bytes()


def test_a_model_comes_back_with_names_opset_and_metadata_and_answers_as_before(tmp_path: Path) -> None:
    path = saved(tmp_path, classifier())
    report = mess.compress(path, tmp_path / "net.mess", **FAST)
    assert report.bytes < path.stat().st_size / 5
    assert report.look is not None
    assert report.look.agreement == 100
    assert report.answers is not None
    assert report.answers.agreement == 100
    assert report.answers.error < 1e-2
    content = back(tmp_path / "net.mess")
    assert without_numbers(content) == without_numbers(path.read_bytes())
    (wanted,) = answers(path.read_bytes(), pictures=PICTURES.numpy())
    (found,) = answers(content, pictures=PICTURES.numpy())
    told = report.answers.outputs[0]
    spread = np.square(wanted - wanted.mean(0)).sum()
    assert np.square(wanted - found).sum() / spread == pytest.approx(told.error, rel=1e-3)


@pytest.mark.parametrize("given", [FAST, {"verify": False}], ids=["pictures", "none"])
def test_what_torch_is_told_around_it_changes_no_byte_of_a_model(given: dict[str, object], tmp_path: Path) -> None:
    path = saved(tmp_path, classifier())
    wanted = mess.compress(path, tmp_path / "net.mess", **given)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            found = mess.compress(path, tmp_path / "other.mess", **given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.look == wanted.look
    assert found.unseen == ""
    assert (tmp_path / "other.mess").read_bytes() == (tmp_path / "net.mess").read_bytes()


def test_the_network_of_a_file_runs_in_torch_as_in_onnxruntime(tmp_path: Path) -> None:
    mess.compress(saved(tmp_path, classifier()), tmp_path / "net.mess", **FAST)
    network = mess.load(tmp_path / "net.mess")
    (wanted,) = answers(back(tmp_path / "net.mess"), pictures=PICTURES.numpy())
    with torch.no_grad():
        assert np.allclose(network(PICTURES).numpy(), wanted, atol=1e-5)
    assert {"stem.weight", "conv", "head"} <= mess.load_state_dict(tmp_path / "net.mess").keys()


def test_batch_norm_is_stored_as_two_vectors_and_matrices_by_output(tmp_path: Path) -> None:
    mess.compress(saved(tmp_path, classifier()), tmp_path / "net.mess", **FAST)
    tensors = {tensor.name: tensor for tensor in mess.inspect(tmp_path / "net.mess").tensors}
    assert {name: tensor.stored for name, tensor in tensors.items() if tensor.stored == "batch norm"} == {
        "norm": "batch norm"
    }
    assert tensors["head"].shape == (10, 48)  # an output a row, as products are looked at
    assert tensors["head"].stored == "sum of references"


def test_a_graph_is_a_section_that_other_readers_of_tensors_pass_over(tmp_path: Path) -> None:
    mess.compress(saved(tmp_path, classifier()), tmp_path / "net.mess", **FAST)
    content = (tmp_path / "net.mess").read_bytes()
    info = mess.inspect(tmp_path / "net.mess")
    assert info.sections["graph"] < 700
    assert sum(info.sections.values()) == info.bytes
    state = mess.load_state_dict(tmp_path / "net.mess")
    read = decode(content)
    assert all(np.array_equal(read[name][0], tensor.numpy()) for name, tensor in state.items() if tensor.dim())


def test_files_for_small_readers_have_the_tensors_and_no_graph(tmp_path: Path) -> None:
    mess.compress(saved(tmp_path, classifier()), tmp_path / "net.mess", **FAST)
    notes = export(tmp_path / "net.mess", tmp_path / "plain.mess").notes
    assert "the graph left out" in notes[0]
    state, plain = (mess.load_state_dict(tmp_path / name) for name in ("net.mess", "plain.mess"))
    assert all(torch.equal(state[name], plain[name]) for name in state)
    assert "graph" not in mess.inspect(tmp_path / "plain.mess").sections


def test_weights_in_constants_and_whole_numbers_are_kept(tmp_path: Path) -> None:
    places = np.arange(100, dtype=np.int64).reshape(1, 100) % 7 * 1_000_003
    constant = numpy_helper.from_array(random(64, 3, 3, 3), "")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=constant), node("Conv", "x w", "a"),
        helper.make_node("Constant", [], ["four"], value_floats=[4.0]), node("Mul", "a four", "y"),
        helper.make_node("Constant", [], ["which"], value=numpy_helper.from_array(places)), node("Add", "which i", "j"),
    ]  # fmt: skip
    made = model(nodes, [value("x", ["n", 3, 8, 8]), value("i", [1], TensorProto.INT64)],
                 [value("y", ["n", 64, 6, 6]), value("j", [1, 100], TensorProto.INT64)], [])  # fmt: skip
    report = mess.compress(saved(tmp_path, made), tmp_path / "net.mess", verify=False)
    assert "inputs are 2, of floats and whole numbers" in report.unseen
    content = back(tmp_path / "net.mess")
    x, i = random(1, 3, 8, 8, seed=1), np.array([5])
    y, j = answers(content, x=x, i=i)
    assert np.array_equal(j, places + 5)
    wanted = answers(made.SerializeToString(), x=x, i=i)[0]
    assert np.square(y - wanted).sum() < 1e-4 * np.square(wanted).sum()


def test_half_precision_stays_half(tmp_path: Path) -> None:
    made = classifier()
    for tensor in made.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for told in (*made.graph.input, *made.graph.output):
        told.type.tensor_type.elem_type = TensorProto.FLOAT16
    report = mess.compress(saved(tmp_path, made), tmp_path / "net.mess", **FAST)
    assert report.answers is not None
    assert report.answers.error < 1e-2
    content = onnx.load_from_string(back(tmp_path / "net.mess"))
    assert {tensor.data_type for tensor in content.graph.initializer} == {TensorProto.FLOAT16}


def test_numbers_beside_the_model_are_read_and_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="model.data", size_threshold=0)
    mess.compress(path, tmp_path / "net.mess", **FAST)
    assert not any(t.external_data for t in onnx.load_from_string(back(tmp_path / "net.mess")).graph.initializer)
    (tmp_path / "model.data").unlink()
    with pytest.raises(CheckpointError, match=r"model\.onnx: expected its numbers beside it"):
        mess.compress(path, tmp_path / "again.mess", **FAST)


def test_what_cannot_be_run_is_rounded_finely_and_said(tmp_path: Path) -> None:
    made = model(
        [node("Conv", "x w", "a"), node("Hardmax", "a", "y")], [value("x", [1, 3, 8, 8])], [value("y", [1, 64, 6, 6])],
        [initialiser("w", random(64, 3, 3, 3))],
    )  # fmt: skip
    report = mess.compress(saved(tmp_path, made), tmp_path / "net.mess", verify=False)
    assert report.look is None
    assert report.unseen == "operators that cannot be run here: Hardmax"
    assert report.error["w"] < 2e-5
    assert report.answers is not None


def test_one_input_at_a_time_is_looked_at_several_at_once(tmp_path: Path) -> None:
    made = classifier(batch=1)
    flat = made.graph.node[6]
    flat.CopyFrom(node("Reshape", "f shape", "g"))
    made.graph.initializer.append(initialiser("shape", np.array([1, 48])))
    report = mess.compress(saved(tmp_path, made), tmp_path / "net.mess", **FAST)
    assert report.look is not None
    assert report.look.agreement == 100
    content = back(tmp_path / "net.mess")
    assert answers(content, pictures=PICTURES[:1].numpy())[0].shape == (1, 10)


def test_scores_beside_coordinates_in_hundreds_are_looked_at_by_themselves(tmp_path: Path) -> None:
    scale = np.array([300.0] * 4 + [1.0] * 4, dtype=np.float32).reshape(1, 8, 1)
    nodes = [node("Conv", "x w", "a"), node("Reshape", "a shape", "b"), node("Mul", "b scale", "y")]
    tensors = [
        initialiser("w", random(8, 3, 3, 3)), initialiser("shape", np.array([0, 8, -1])), initialiser("scale", scale),
    ]  # fmt: skip
    made = model(nodes, [value("x", ["n", 3, 10, 10])], [value("y", ["n", 8, 64])], tensors)
    network = GraphNetwork(take_out(made).graph, {"w": torch.from_numpy(random(8, 3, 3, 3))})
    assert make_fit(network, torch.randn(2, 3, 10, 10)) == ""
    assert [tuple(part.shape) for part in network(torch.randn(5, 3, 10, 10))] == [(5, 4, 64), (5, 4, 64)]


def test_branches_are_run_and_their_weights_stored(tmp_path: Path) -> None:
    def branch(name: str, seed: int) -> object:
        return helper.make_graph(
            [node("Conv", f"x {name}", f"y_{name}")], name, [], [value(f"y_{name}", ["n", 16, 6, 6])],
            [initialiser(name, random(16, 3, 3, 3, seed=seed))],
        )  # fmt: skip

    nodes = [
        node("ReduceMax", "x", "top", keepdims=0), node("Greater", "top limit", "bright"),
        helper.make_node("If", ["bright"], ["y"], then_branch=branch("one", 1), else_branch=branch("two", 2)),
    ]  # fmt: skip
    made = model(nodes, [value("x", ["n", 3, 8, 8])], [value("y", ["n", 16, 6, 6])],
                 [initialiser("limit", np.array(100, dtype=np.float32))])  # fmt: skip
    path = saved(tmp_path, made)
    taken = read_taken(path)
    assert taken.tensors.keys() == {"one", "two"}
    network = GraphNetwork(taken.graph, {name: torch.from_numpy(array) for name, array in taken.tensors.items()})
    for x in (torch.ones(1, 3, 8, 8), torch.full((1, 3, 8, 8), 200.0)):
        wanted = answers(path.read_bytes(), x=x.numpy())[0]
        assert np.allclose(network(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("key", "value_"),
    [("location", "../../etc/passwd"), ("location", "nowhere"), ("offset", "8"), ("order", "backwards")],
)
def test_a_graph_that_asks_for_what_the_file_lacks_is_refused(key: str, value_: str) -> None:
    taken = take_out(classifier())
    graph = onnx.ModelProto.FromString(taken.graph)
    (entry,) = graph.graph.initializer[0].external_data
    if key == "location":
        entry.value = value_
    else:
        graph.graph.initializer[0].external_data.add(key=key, value=value_)
    with pytest.raises(FormatError, match=r"net\.mess"):
        put_back(graph.SerializeToString(), taken.tensors, "net.mess")


def test_a_place_outside_the_file_is_refused_wherever_a_tensor_hides(tmp_path: Path) -> None:
    taken = take_out(classifier())
    graph = onnx.ModelProto.FromString(taken.graph)
    hidden = helper.make_tensor("t", TensorProto.FLOAT, [1], [0.0])
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="secret")
    graph.graph.node[0].attribute.append(helper.make_attribute("sparse_values", [hidden]))
    stored = codec.StoredModel(None, {"version": "v4"}, [], {}, graph.SerializeToString())
    codec.write_model(tmp_path / "bad.mess", stored)
    for work in (lambda: export(tmp_path / "bad.mess", tmp_path / "out.onnx"), lambda: put_back(stored.graph, {}, "x")):
        with pytest.raises(FormatError):
            work()
    assert not (tmp_path / "out.onnx").exists()


def test_tensors_of_another_shape_or_kind_and_what_is_no_model_are_refused() -> None:
    taken = take_out(classifier())
    for wrong in (taken.tensors["conv"][1:], taken.tensors["conv"].astype(np.float16)):
        with pytest.raises(FormatError, match="conv: expected"):
            put_back(taken.graph, {**taken.tensors, "conv": wrong}, "net.mess")
    with pytest.raises(FormatError, match="an ONNX model"):
        put_back(b"\xff\xff\xff", {}, "net.mess")


def test_other_versions_and_files_that_are_no_models_get_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = saved(tmp_path, classifier())
    with pytest.raises(OptionError, match="v4 for an ONNX model, found v2"):
        mess.compress(path, tmp_path / "net.mess", "v2")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07not a model at all")
    assert main(["compress", str(tmp_path / "bad.onnx")]) == 2
    assert "an ONNX model, found" in capfd.readouterr().err
    onnx.save(model([node("Relu", "x", "y")], [value("x", [1])], [value("y", [1])], []), tmp_path / "none.onnx")
    with pytest.raises(WeightsError, match="none worth storing"):
        mess.compress(tmp_path / "none.onnx", tmp_path / "none.mess")


def test_the_command_says_what_onnxruntime_answers(in_folder: Path, capfd: pytest.CaptureFixture) -> None:
    saved(in_folder, classifier())
    np.save("inputs.npy", PICTURES.numpy())
    assert main(["compress", "model.onnx", "-o", "model.mess", "--calibration", "inputs.npy", "--no-verify"]) == 0
    assert "onnxruntime on both models: 100.00 % decided alike" in capfd.readouterr().out
    assert main(["decompress", "model.mess", "-o", "back.onnx"]) == 0
    assert "opset 14, pictures to chances" in capfd.readouterr().out


def test_a_report_shows_what_storing_changed_of_a_model(in_folder: Path) -> None:
    mess.compress(saved(in_folder, classifier()), "net.mess", verify=False, calibration=PICTURES)
    assert main(["report", "net.mess", "--original", "model.onnx", "-o", "page.html"]) == 0
    assert 'class="worst"' in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("last", "refused"),
    [
        (node("Mul", "b state", "c"), "a network of one input, an image, found one of 2: pictures, state"),
        (node("Hardmax", "b", "c"), "a network that can be run here, found operators that cannot: Hardmax"),
    ],
)
def test_predict_says_of_a_model_that_it_cannot_run_why(
    last: onnx.NodeProto, refused: str, in_folder: Path, capsys: pytest.CaptureFixture
) -> None:
    nodes = [node("Conv", "pictures conv", "a"), node("GlobalAveragePool", "a", "b"), last]
    inputs = [
        value("pictures", ["n", 3, 16, 16]),
        *([value("state", ["n", 48, 1, 1])] if "state" in last.input else []),
    ]
    made = model(nodes, inputs, [value("c", ["n", 48, 1, 1])], [initialiser("conv", random(48, 3, 3, 3))])
    mess.compress(saved(in_folder, made), "net.mess")
    Image.new("RGB", (16, 16)).save("a.png")
    assert main(["predict", "net.mess", "a.png"]) == 2
    assert f"net.mess: expected {refused}" in capsys.readouterr().err


def test_several_files_are_stored_and_what_cannot_be_is_told(in_folder: Path, capfd: pytest.CaptureFixture) -> None:
    (in_folder / "zoo").mkdir()
    for name in ("a", "b"):
        torch.save({"conv.weight": torch.randn(16, 8, 3, 3)}, in_folder / "zoo" / f"{name}.pth")
    (in_folder / "zoo" / "c.pth").write_bytes(b"no weights")
    assert main(["compress", "zoo", "-o", "stored", "--json", "--no-verify"]) == 2
    out, err = capfd.readouterr()
    assert [Path(told["file"]).name for told in json.loads(out)] == ["a_v4.mess", "b_v4.mess"]
    assert "c.pth" in err
    assert main(["compress", "zoo/a.pth", "zoo/b.pth", "-o", "stored", "--no-verify", "--force"]) == 0
    assert "2 files" in capfd.readouterr().out


def test_names_that_modules_cannot_have_are_changed_and_stay_apart() -> None:
    names = StateNames()
    wanted = ["a.b", "a", "a.b", "training", "x..y", "a.b.c", "_w", "", "nul\x00", "w" * 3000]
    found = [names.free(name) for name in wanted]
    assert found[0] == "a.b"
    assert len(set(found)) == len(found)
    module = GraphNetwork(take_out(classifier()).graph, {})
    for name in found:
        module._take(name, torch.zeros(1))
    assert set(found) <= module.state_dict().keys()
    assert {name for name in dir(torch.nn.Module()) if not name.startswith("_")} <= TAKEN
