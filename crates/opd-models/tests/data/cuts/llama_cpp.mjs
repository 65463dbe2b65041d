// node llama_cpp.mjs FILE.gguf TEXTS.json IDS.json: token ids of texts by llama.cpp, special tokens in the
// text taken as such, none added.
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [file, texts, ids] = process.argv.slice(2);
const llama = await getLlama({ build: "never", gpu: false, progressLogs: false, logLevel: LlamaLogLevel.disabled });
const model = await llama.loadModel({ modelPath: file, vocabOnly: true });
const cut = (text) => Array.from(model.tokenize(text, true));
writeFileSync(ids, JSON.stringify(JSON.parse(readFileSync(texts, "utf8")).map(cut)));
