"""Naming a layer, and ending a network at it: compared with plain forward hooks."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.converters.inference import InferenceError, ProviderError
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.saved import SavedModel, TorchvisionNetwork, open_model
from torchlift.transfer.errors import LayerError
from torchlift.transfer.features.extractors import (
    FeatureExtractor,
    TorchExtractor,
    build_extractor,
    network_digest,
    open_extractor,
)
from torchlift.transfer.features.network import FeatureNetwork
from torchlift.transfer.find_layers import Tap, find_tap, find_taps

DIGITS = FIXTURES / "digits"


@pytest.fixture(scope="module")
def digits() -> SavedModel:
    return open_model(DIGITS / "digits-lenet5-bn.t7", mean_std=DIGITS / "digits_meanStd.t7")


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 1, 32, 32), np.float32)


def hooked(network: nn.Module, layer: str, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the input and the output of a layer in a whole pass, by a plain hook."""
    values: list[Any] = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda _, inputs, output: values.append((inputs[0].clone(), output.clone()))
    )
    with torch.no_grad():
        network(torch.from_numpy(inputs))
    handle.remove()
    return values[0][0].numpy(), values[0][1].numpy()


class TestNames:
    nested = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3)),
        nn.LogSoftmax(1),
    )

    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("1.2", "1.2"),
            ("get(2):get(3)", "1.2"),
            ("model:get(2):get(3)", "1.2"),
            ("modules[2].modules[3]", "1.2"),
            ("model.modules[2].modules[3]", "1.2"),
            ("net:get(2).modules[3]", "1.2"),
            ("get( 1 )", "0"),
        ],
    )
    def test_pytorch_names_and_lua_paths_are_equivalent(self, name: str, layer: str) -> None:
        assert find_tap(self.nested, name) == Tap(layer, layer)

    def test_a_place_without_a_layer_does_not_count_in_lua(self) -> None:
        """As torchvision's `downsample`, which most blocks do not have."""
        block = nn.Sequential(nn.Linear(4, 3))
        block.register_module("downsample", None)
        block.add_module("last", nn.ReLU())
        assert find_tap(block, "get(2)") == Tap("last", "last")
        with pytest.raises(LayerError, match="has 2 children"):
            find_tap(block, "get(3)")

    def test_penultimate_is_the_input_of_the_last_linear(self) -> None:
        assert find_tap(self.nested, "penultimate") == Tap("penultimate", "1.3", before=True)

    def test_a_layer_of_torchvision_needs_no_prefix(self) -> None:
        network = TorchvisionNetwork("resnet18", 2)
        taps = find_taps(network, ["layer4", "network.layer4", "layer1.0.relu", "network"])
        layers = ["network.layer4", "network.layer1.0.relu", "network"]
        assert [tap.layer for tap in taps] == layers

    def test_two_names_of_one_layer_count_once(self) -> None:
        taps = find_taps(self.nested, ["1.2", "get(2):get(3)", "input"])
        assert [tap.name for tap in taps] == ["1.2", "input"]
        with pytest.raises(LayerError, match="no layer was named"):
            find_taps(self.nested, [])

    @pytest.mark.parametrize(
        ("name", "fragments"),
        [
            ("1.22", ["'1.22'", "1.2 (ReLU)"]),
            ("get(2):get(9)", ["1 (Sequential) has 4 children", "nearest names:"]),
            ("get(0)", ["has 3 children"]),
            # None is near: the last ones.
            ("@@@", ["), penultimate, input, output"]),
            ("", ["no layer ''"]),
            ("get(2):get", ["no layer 'get(2):get'"]),
        ],
    )
    def test_an_error_lists_the_nearest_names(self, name: str, fragments: list[str]) -> None:
        with pytest.raises(LayerError) as raised:
            find_tap(self.nested, name)
        for fragment in fragments:
            assert fragment in str(raised.value)

    def test_the_output_is_what_the_network_gives(self) -> None:
        assert find_tap(self.nested, "output") == Tap("output", "")
        inputs = torch.arange(24.0).reshape(2, 12)
        network = nn.Sequential(nn.Linear(12, 5), nn.Linear(5, 3)).eval()
        features = FeatureNetwork(network, find_taps(network, ["penultimate", "output"]))
        with torch.no_grad():
            first, last = features(inputs)
            assert torch.equal(first, network[0](inputs))
            assert torch.equal(last, network(inputs))

    def test_without_a_linear_layer_the_head_is_the_last_convolution(self) -> None:
        network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.ReLU())
        assert str(find_tap(network, "penultimate")) == "the input of 1"

    def test_without_a_head_an_error_lists_the_last_layers(self) -> None:
        with pytest.raises(LayerError, match=r"0 \(Flatten\), 1 \(ReLU\)"):
            find_tap(nn.Sequential(nn.Flatten(), nn.ReLU()), "penultimate")
        many = nn.Sequential(*(nn.ReLU() for _ in range(9)))
        with pytest.raises(LayerError, match=r"one of the last: 4 \(ReLU\), .*8 \(ReLU\)$"):
            find_tap(many, "penultimate")

    def test_a_layer_that_is_used_twice_has_two_names(self) -> None:
        shared = nn.Sequential(nn.Tanh())
        network = nn.Sequential(nn.Linear(3, 3), shared, nn.Linear(3, 3), shared)
        assert find_tap(network, "3.0") == Tap("3.0", "3.0")
        assert find_tap(network, "get(4):get(1)") == Tap("3.0", "3.0")

    def test_only_in_a_network_of_a_library_the_prefix_may_be_left_out(self) -> None:
        network = nn.Sequential(OrderedDict(network=nn.Sequential(nn.Linear(3, 3))))
        assert find_tap(network, "network.0") == Tap("network.0", "network.0")
        with pytest.raises(LayerError, match=r"no layer '0'; nearest names: network \(Seq"):
            find_tap(network, "0")


class TestFeatureNetwork:
    def test_features_equal_the_values_in_a_whole_pass(
        self, digits: SavedModel, inputs: np.ndarray
    ) -> None:
        names = ["penultimate", "get(4)", "11", "input"]
        taps = find_taps(digits.module, names)
        with torch.no_grad():
            features = FeatureNetwork(digits.module, taps)(torch.from_numpy(inputs))
        expected = [
            hooked(digits.module, "13", inputs)[0],
            hooked(digits.module, "3", inputs)[1],
            hooked(digits.module, "11", inputs)[1],
            inputs,
        ]
        for actual, values in zip(features, expected, strict=True):
            assert np.array_equal(actual.numpy(), values)

    def test_nothing_after_the_last_layer_is_computed(self) -> None:
        class Bomb(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                raise AssertionError("computed")

        network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), Bomb())
        features = FeatureNetwork(network, find_taps(network, ["1", "0"]))
        assert [tuple(value.shape) for value in features(torch.zeros(4, 2))] == [(4, 3), (4, 3)]
        network[0].register_forward_hook(lambda *_: pytest.fail("computed"))
        FeatureNetwork(network, find_taps(network, ["input"]))(torch.zeros(4, 2))

    def test_a_layer_that_works_in_place_does_not_change_features(self) -> None:
        network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
        x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            linear, _ = FeatureNetwork(network, find_taps(network, ["0", "penultimate"]))(x)
            assert torch.equal(linear, network[0](x))
        assert (linear < 0).any()

    def test_a_layer_that_runs_twice_is_refused(self) -> None:
        relu = nn.ReLU()
        network = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu)
        with pytest.raises(LayerError, match="more than once"):
            FeatureNetwork(network, find_taps(network, ["1"]), stop=False)(torch.zeros(2, 2))

    def test_tables_and_layers_that_never_run_are_refused(self) -> None:
        class Branches(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.pair, self.unused = Pair(), nn.Identity()

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.pair(x)[0]

        class Pair(nn.Module):
            def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
                return [x, x]

        network = Branches()
        for name, problem in (("pair", "is a list"), ("unused", "never reached")):
            with pytest.raises(LayerError, match=problem):
                FeatureNetwork(network, find_taps(network, [name]))(torch.zeros(2, 2))

    def test_no_hook_is_left_behind(self, digits: SavedModel, inputs: np.ndarray) -> None:
        def hooks() -> list[int]:
            modules = digits.module.modules()
            return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]

        before = hooks()
        FeatureNetwork(digits.module, find_taps(digits.module, ["3"]))(torch.from_numpy(inputs))
        assert hooks() == before


class TestExtractors:
    #: float32 sums in another order; batch normalization is folded into convolutions.
    tolerance = 2e-5

    def values(self, extractor: FeatureExtractor, inputs: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(extractor.names, extractor(inputs), strict=True))

    def test_an_exported_network_returns_the_same_features(
        self, digits: SavedModel, inputs: np.ndarray
    ) -> None:
        names = ["input", "3", "12", "penultimate"]
        expected = self.values(build_extractor(digits, names, inputs[:2]), inputs)
        actual = self.values(build_extractor(digits, names, inputs[:2], "onnxruntime"), inputs)
        assert list(expected) == list(actual) == names
        for name in names:
            np.testing.assert_allclose(actual[name], expected[name], atol=self.tolerance, rtol=0)

    def test_an_onnx_file_returns_the_same_features_by_its_own_names(
        self, digits: SavedModel, inputs: np.ndarray, tmp_path: Path
    ) -> None:
        file = tmp_path / "digits.onnx"
        export(digits, file)
        graph = onnx.load(file).graph
        last = [node for node in graph.node if node.op_type == "Gemm"][-1]
        names = ["input", "penultimate", last.output[0]]
        features = self.values(open_extractor(file, names), inputs)
        before, after = hooked(digits.module, "13", inputs)
        np.testing.assert_array_equal(features["input"], inputs)
        np.testing.assert_allclose(features["penultimate"], before, atol=self.tolerance, rtol=0)
        np.testing.assert_allclose(features[last.output[0]], after, atol=self.tolerance, rtol=0)
        assert open_extractor(file, ["input"]).preprocessing == digits.preprocessing
        with pytest.raises(LayerError, match="nearest names: "):
            open_extractor(file, ["linear_22"])

    def test_errors_of_running_are_those_of_inference(
        self, digits: SavedModel, inputs: np.ndarray, tmp_path: Path
    ) -> None:
        with pytest.raises(InferenceError, match="backend='jax': expected torch or onnxruntime"):
            build_extractor(digits, ["input"], inputs[:2], "jax")
        with pytest.raises(OnnxError, match="no such file"):
            open_extractor(tmp_path / "nowhere.onnx", ["input"])
        for backend in ("torch", "onnxruntime"):
            extractor = build_extractor(digits, ["penultimate"], inputs[:2], backend)
            with pytest.raises(InferenceError, match="shape"):
                extractor(inputs[:, :, :9])

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    def test_cuda_does_not_start_without_a_gpu(self, digits: SavedModel) -> None:
        with pytest.raises(ProviderError, match="cuda does not start"):
            TorchExtractor(digits, ["penultimate"], "cuda")

    def test_the_digest_is_of_the_network_and_not_of_its_file(self, digits: SavedModel) -> None:
        again = open_model(DIGITS / "digits-lenet5-bn.t7")
        assert network_digest(again.module) == network_digest(digits.module)
        with torch.no_grad():
            again.module.get_parameter("13.bias")[3] += 1e-6
        assert network_digest(again.module) != network_digest(digits.module)
        other = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        same_weights = nn.Sequential(other[0], nn.Tanh())
        assert network_digest(other) != network_digest(same_weights)

    def test_names_that_are_hardly_alike_are_listed_and_else_the_last(self) -> None:
        network = nn.Sequential(OrderedDict((f"layer{i}", nn.ReLU()) for i in range(8)))
        with pytest.raises(LayerError, match=r"nearest names: layer7 \(ReLU\), penultimate"):
            find_tap(network, "l7")
        with pytest.raises(LayerError, match=r"nearest names: layer3 \(ReLU\), layer4 .*layer7 "):
            find_tap(network, "@@@")
        # What the twelfth child of Lua would be called is what names are compared with.
        inner = nn.Sequential(nn.Sequential(*(nn.ReLU() for _ in range(3))))
        with pytest.raises(LayerError, match=r"0 \(Sequential\) has 3 children; .*names: 0\.1 "):
            find_tap(inner, "get(1):get(12)")
        for path in ("get(0)", "get(1):get(0)", "get(1):get(4)"):
            with pytest.raises(LayerError, match=r"has [13] children"):
                find_tap(inner, path)
