"""Makes vocabulary.gguf and cuts.json: how texts are cut under every `tokenizer.ggml.pre` that is read.

    make.py        gguf and tokenizers (the environment of tests/real_servers/install); node and npm

The vocabulary is learned from the texts without any cut, so that its tokens lie across every place where a
cut may fall and each cut shows in the ids. The ids are those of two programs that read such files: llama.cpp
(npm's node-llama-cpp), of the file with each name, and tokenizers, with what `tokenizer.json` of a model of
that family holds. They must agree; texts of which only tokenizers composes the characters (NFC, which Qwen's
`tokenizer.json` asks for and llama.cpp leaves out) are kept apart, with its ids alone.
"""

import json
import subprocess
import tempfile
import unicodedata
from pathlib import Path

import gguf
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
NODE_LLAMA_CPP = "3.22.1"
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
OWN = ["<tool_call>", "</tool_call>"]
TEXTS = [
    "0 12 345 6789 12345678901234567890",
    "a1b22c333d4444 x1.5e-10 1,234,567.89 0x1F 2024-11-29T16:05:20Z",
    "  12  345\t6789\n10\n\n11 12\r\n13",
    "٣٤٥ १२३ ４５６ ½ ² Ⅷ 1½ x²",
    "I'll don't we've they're he'd I'm it's 'tis 'S 'RE 'Ll o'clock",
    "DON'T I'LL WE'VE 'quoted' ''twice'' 've 'd 'm",
    "line\nbreak\n\ntwo\n\n\nthree\r\nfour\r\rfive\n \n  \n",
    "   leading", "trailing   ", "in   the    middle", " ", "  ", "\n", " \n", "\n ", "\t\t", "",
    "tab\tand\t\ttabs \t mixed  \t\n\t end",
    "no\u00a0break thin\u2009space zero\u200bwidth line\u2028sep \u3000wide\u3000",
    "naïve café Straße ǅ ŒUVRE ﬁ Ωμέγα Привет мир",
    "日本語のテキスト、漢字とカタカナ。한국어 텍스트 你好，世界！",
    "مرحبا بالعالم שלום हिन्दी பேச்சு ไทย",
    "emoji 🙂🦀 👍🏽 🇺🇸 ❤️ 👩‍👩‍👧 ok",
    "for (int i = 0; i < n; ++i) {\n    sum += a[i] * 2.5f; // 3rd\n}\n",
    "def f(x: int) -> str:\n\treturn f\"{x!r:>10}\"  # comment\n\n\nclass A(B):\n    pass\n",
    "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 42); return 0; }\r\n",
    "SELECT * FROM t WHERE id=10 AND name LIKE '%x%';--end",
    "{\"key\": [1, 2.5, null], \"é\": \"\\u00e9\", \"n\": -1e+20}",
    "<b>&amp;</b> $x^2=4$ \\frac{1}{2} a_{10} 50% #1 @x ~/.rc",
    "...!!! ??? ---- ===== ((())) [[1]] ,,, ;;; ::",
    "...\n\n!!!\n)\r\n}\n\n  ;\n",
    "snake_case_2 camelCase HTTPServer v1.2.3-rc4 foo::bar->baz",
    "https://example.com/a/b?c=1&d=2#e user@mail.org",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{\"a\": 1}\n</tool_call><|im_end|>",
    "a<|im_end|>b <|im_start|> c<|endoftext|>", "<|im_end>|> <|im_ start|>", "<tool_call><tool_call>1</tool_call>",
    "zqzq zqzq1zqzq", "zqzq", "xxxxxxxxxxxxxxxxxxxxxxxx", "aAaA BbBb",
    "The year 1999's 3rd quarter: $1,000,000 (10%).",
]
# Composed characters are other bytes: only these need a normaliser.
COMPOSED = ["e\u0301 A\u030a n\u0303o", "\u1100\u1161 ga", "cafe\u0301s 1\u0301"]
assert all(unicodedata.is_normalized("NFC", text) for text in TEXTS)

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
NAMES = ["gpt-2", "smollm", "starcoder", "qwen2", "deepseek-r1-qwen", "llama-bpe", "llama3"]


def pre_tokenizer(name):
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = lambda regex: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), raw])
    if name == "gpt-2":
        return words
    if name in ("smollm", "starcoder"):
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    return split(QWEN2 if "qwen" in name else LLAMA3)


def vocabulary():
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner.train_from_iterator(
        [text for text in TEXTS + COMPOSED for _ in range(2)],
        trainers.BpeTrainer(
            vocab_size=1400, min_frequency=2, max_token_length=6, show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in learned["merges"]]
    # `zqzq` is a token that no merge makes: where merges are passed over it is found all the same.
    merges = [merge for merge in merges if "zq" not in "".join(merge)]
    made = {a + b for a, b in merges}
    known = [t for t in sorted(learned["vocab"], key=learned["vocab"].get) if len(t) == 1 or t in made]
    return CONTROL + OWN + known + ["zqzq"], merges


TOKENS, MERGES = vocabulary()


def write(path, name):
    out = gguf.GGUFWriter(path, "llama")
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(name)
    out.add_token_list(TOKENS)
    out.add_token_types([3 if t in CONTROL else 4 if t in OWN else 1 for t in TOKENS])
    out.add_token_merges([" ".join(merge) for merge in MERGES])
    out.add_bos_token_id(0)
    out.add_eos_token_id(2)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def of_tokenizers(name, texts):
    vocab = {token: i for i, token in enumerate(TOKENS)}
    made = Tokenizer(models.BPE(vocab, MERGES, ignore_merges=name.startswith("llama")))
    made.pre_tokenizer = pre_tokenizer(name)
    made.decoder = decoders.ByteLevel()
    if "qwen" in name:
        made.normalizer = normalizers.NFC()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    made.add_tokens([AddedToken(t, special=False, normalized=False) for t in OWN])
    return [encoding.ids for encoding in made.encode_batch(texts, add_special_tokens=False)]


def of_llama_cpp(work, name, texts):
    write(work / f"{name}.gguf", name)
    (work / "texts.json").write_text(json.dumps(texts))
    subprocess.run(["node", "llama_cpp.mjs", f"{name}.gguf", "texts.json", "ids.json"], cwd=work, check=True)
    return json.loads((work / "ids.json").read_text())


def main():
    cuts = {"by": [f"llama.cpp of node-llama-cpp {NODE_LLAMA_CPP}", f"tokenizers {tokenizers.__version__}"],
            "texts": TEXTS, "ids": {}, "composed": COMPOSED, "composed_ids": {}}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "llama_cpp.mjs").write_text((HERE / "llama_cpp.mjs").read_text())
        (work / "package.json").write_text("{}")
        packages = [f"node-llama-cpp@{NODE_LLAMA_CPP}", f"@node-llama-cpp/linux-x64@{NODE_LLAMA_CPP}"]
        subprocess.run(["npm", "install", "--silent", "--ignore-scripts", *packages], cwd=work, check=True)
        for name in NAMES:
            theirs, ids = of_llama_cpp(work, name, TEXTS), of_tokenizers(name, TEXTS)
            for text, one, other in zip(TEXTS, theirs, ids):
                if one != other:
                    spelled = [[TOKENS[i] for i in ids] for ids in (one, other)]
                    raise SystemExit(f"{name}: {text!r}: llama.cpp {spelled[0]}, tokenizers {spelled[1]}")
            cuts["ids"][name] = ids
            cuts["composed_ids"][name] = of_tokenizers(name, COMPOSED)
            print(name, sum(map(len, ids)), "ids")
    write(HERE / "vocabulary.gguf", "gpt-2")
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in cuts.items())
    (HERE / "cuts.json").write_text("{\n" + lines + "\n}\n")


main()
