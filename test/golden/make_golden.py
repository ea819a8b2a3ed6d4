#!/usr/bin/env python3
"""Make the golden checkpoints: tiny Qwen3 models whose logits and loss come from Hugging Face transformers.

    pip install torch==2.2.2 transformers==4.51.3 safetensors 'numpy<2'
    python make_golden.py                   writes qwen3_free/ and qwen3_tied/ beside this file
    python make_golden.py --check DIRECTORY opens DIRECTORY (an export of atoll, or one of ours) in transformers, prints what was
                                            missing or unexpected, and compares with golden.json when there is one

Weights are drawn wide (standard deviation 0.3, norms 1 + 0.3 N(0,1)), head_dim is not hidden / heads, kv heads are fewer than heads, and
eps and theta differ from atoll's defaults in one of the two, so that a loader that ignores any of them is found out. The truth
is the same model computed in float64 (transformers keeps its norms and rotary angles in float32: that is its own
noise, printed below as the distance between its float32 and its float64 logits).
"""
import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = 12  # 11 inputs (odd) and 11 targets

CASES = {
    "qwen3_free": dict(seed=1, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                       intermediate_size=40, vocab_size=64, tie_word_embeddings=False, rope_theta=10000.0, rms_norm_eps=1e-6),
    "qwen3_tied": dict(seed=2, hidden_size=20, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=6,
                       intermediate_size=28, vocab_size=50, tie_word_embeddings=True, rope_theta=500.0, rms_norm_eps=1e-3),
}


def logits_and_loss(model, tokens):
    with torch.no_grad():
        logits = model(torch.tensor([tokens[:-1]])).logits[0]
    loss = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(tokens[1:]))
    return logits, loss.item()


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def load(directory, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(directory, torch_dtype=dtype, output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{directory}: {wrong}"
    return model.eval()


def make(name, seed, **shape):
    generator = torch.Generator().manual_seed(seed)
    model = Qwen3ForCausalLM(Qwen3Config(max_position_embeddings=64, attention_bias=False, **shape)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if parameter.dim() == 1 else noise)
    tokens = torch.randint(shape["vocab_size"], (TOKENS,), generator=generator).tolist()
    directory = HERE / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    (directory / "model.safetensors").chmod(0o644)

    logits, loss = logits_and_loss(load(directory, torch.float64), tokens)
    narrow, _ = logits_and_loss(load(directory, torch.float32), tokens)
    golden = {"made_by": f"make_golden.py, torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
              "tokens": tokens, "loss": loss,
              "logits": [[float(f"{value:.10g}") for value in row] for row in logits.tolist()]}
    lines = json.dumps(golden).replace("], [", "],\n[")
    (directory / "golden.json").write_text(lines + "\n")
    print(f"{name}: loss {loss:.6f}, float32 against float64 logits {relative(narrow, logits):.2e}")


def check(directory):
    directory = pathlib.Path(directory)
    model = load(directory, torch.float64)
    print(f"{directory.name}: opens as {type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters")
    if (directory / "golden.json").exists():
        golden = json.loads((directory / "golden.json").read_text())
        logits, loss = logits_and_loss(model, golden["tokens"])
        print(f"  logits differ by {relative(logits, torch.tensor(golden['logits'], dtype=torch.float64)):.2e}, "
              f"loss by {abs(loss - golden['loss']) / golden['loss']:.2e} (relative)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(sys.argv[2])
    else:
        for name, case in CASES.items():
            make(name, **case)
