"""The model in eager torch, float32, text by text: probabilities and tokens of each text as JSON.

    python -m benchmarks.peers.transformer.reference --model FOLDER < TEXTS.json

Runs in the environment of the peer `transformers`.
"""

import argparse
import json
import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.peers.transformer.shape import MAX_TOKENS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    folder = parser.parse_args().model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()
    # two threads of torch wait for each other, which takes minutes if other programs use the cores
    torch.set_num_threads(1)
    longest = min(MAX_TOKENS, tokenizer.model_max_length)
    probabilities, tokens = [], []
    with torch.inference_mode():
        for text in json.load(sys.stdin):
            inputs = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
            probabilities.append(torch.softmax(model(**inputs).logits, dim=-1)[0].tolist())
            tokens.append(inputs["input_ids"].shape[1])
    json.dump({"probabilities": probabilities, "tokens": tokens}, sys.stdout)


if __name__ == "__main__":
    main()
