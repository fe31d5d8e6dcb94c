"""Measures llama.cpp as `mnemos-neuron bench` measures the engine: the same tokens, greedy, the same threads.

Usage: llama_cpp_speed.py MODEL_GGUF THREADS PROMPT_TOKENS DECODE_TOKENS. Prints one JSON object.
"""

import json
import sys
import time

import llama_cpp


def main(model, threads, prompt_tokens, decode_tokens):
    llama = llama_cpp.Llama(
        model,
        n_ctx=prompt_tokens + decode_tokens + 8,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    prompt = [(index * 7919 + 13) % llama.n_vocab() for index in range(prompt_tokens)]
    # The first evaluation also pages the weights in; the engine's own warm-up does so on the other side.
    llama.eval(prompt[:8])
    llama.reset()
    started = time.monotonic()
    llama.eval(prompt)
    token = llama.sample(temp=0.0)
    first = time.monotonic()
    for _ in range(decode_tokens - 1):
        llama.eval([token])
        token = llama.sample(temp=0.0)
    ended = time.monotonic()
    print(
        json.dumps(
            {
                "engine": "llama-cpp-python " + llama_cpp.__version__,
                "threads": threads,
                "prompt_tokens": prompt_tokens,
                "decode_tokens": decode_tokens,
                "prefill_tokens_per_s": prompt_tokens / (first - started),
                "decode_tokens_per_s": (decode_tokens - 1) / (ended - first),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
