// Runs a WebAssembly program in the present folder: node run_wasm.mjs PROGRAM RESOURCES ARGUMENT...
// It sees this folder, RESOURCES as /share, and an empty /tmp of its own.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { WASI } from "node:wasi";

const [program, resources, ...args] = process.argv.slice(2);
const temporary = mkdtempSync(join(tmpdir(), "qrelay-"));
try {
  const wasi = new WASI({
    version: "preview1",
    args: [basename(program, ".wasm"), ...args],
    preopens: { "/share": resources, "/tmp": temporary, ".": process.cwd() },
  });
  const module = await WebAssembly.compile(readFileSync(program));
  process.exitCode = wasi.start(await WebAssembly.instantiate(module, wasi.getImportObject()));
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
