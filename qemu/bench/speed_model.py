"""Makes a GGUF with random weights for speed measurements: a Llama of about 0.3 B parameters, Q8_0.

Usage: speed_model.py FOLDER. Writes model.gguf and model.json. Speed does not depend on the weights' values.
"""

import hashlib
import json
import pathlib
import sys

import gguf
import numpy

LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 24, 1024, 2816, 16, 8, 8192, 2048
NAME = "random-llama-0.3b-q8_0"


def vocabulary():
    """Byte tokens, then pairs of them, then the control tokens: a valid byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in printable]
    letters += [chr(256 + index) for index in range(256 - len(letters))]
    pairs = [(first, second) for first in letters for second in letters][: VOCABULARY - 256 - 2]
    tokens = letters + [first + second for first, second in pairs] + ["<s>", "</s>"]
    return tokens, [f"{first} {second}" for first, second in pairs]


def write_weights(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (VOCABULARY - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(VOCABULARY - 2)
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    random = numpy.random.default_rng(1)

    def norm(name):
        writer.add_tensor(name, numpy.ones(WIDTH, dtype=numpy.float32))

    def matrix(name, rows, columns):
        values = random.standard_normal((rows, columns), dtype=numpy.float32) / numpy.sqrt(columns)
        quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    matrix("token_embd.weight", VOCABULARY, WIDTH)
    norm("output_norm.weight")
    matrix("output.weight", VOCABULARY, WIDTH)
    keys = WIDTH // HEADS * KV_HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        norm(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", WIDTH, WIDTH)
        matrix(block + "attn_k.weight", keys, WIDTH)
        matrix(block + "attn_v.weight", keys, WIDTH)
        matrix(block + "attn_output.weight", WIDTH, WIDTH)
        matrix(block + "ffn_gate.weight", FEED_FORWARD, WIDTH)
        matrix(block + "ffn_up.weight", FEED_FORWARD, WIDTH)
        matrix(block + "ffn_down.weight", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.gguf"
    write_weights(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    description = {
        "name": NAME,
        "self_test": False,
        "description": "Random weights, for speed measurements.",
        "context_tokens": CONTEXT,
        "sha256": digest,
        "license": "CC0-1.0",
        "self_test_cases": [],
    }
    (folder / "model.json").write_text(json.dumps(description, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
