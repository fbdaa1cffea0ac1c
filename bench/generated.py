"""Generated code against code written by hand, in one run: ``python bench/generated.py [ts] [rust] [cpp]``.

Each program decodes the same messages with both, in turns, and prints the median of the ratios of the times.
``struct``: u64, f64, f32, u32, bool. ``array``: a list of 100,000 f32, by hand a copy of its bytes. ``rows``: a list
of 10,000 structs of three f32.
Needs node, rustc or g++. A language whose tool is missing is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from deli_com import Array, Codec, codec, f32, f64, u32, u64
from deli_com.gen import cpp, rust, typescript


class Sample(Codec):
    seq: u64
    stamp: f64
    x: f32
    id: u32
    ok: bool


class Trace(Codec):
    values: Array[f32]


class Point(Codec):
    x: f32
    y: f32
    z: f32


class Cloud(Codec):
    points: list[Point]


HAND_JS = """
export function sample(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ok = view.getUint8(24);
  if (ok > 1) throw new RangeError("ok is no bool");
  return {
    seq: view.getBigUint64(0, true),
    stamp: view.getFloat64(8, true),
    x: view.getFloat32(16, true),
    id: view.getUint32(20, true),
    ok: ok === 1,
  };
}

// As examples/camera/page/reader.js: an object that knows how far it has read.
class Reader {
  constructor(bytes) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }
  skip(size) {
    const start = this.at;
    this.at += size;
    return start;
  }
  u8() { return this.view.getUint8(this.skip(1)); }
  u32() { return this.view.getUint32(this.skip(4), true); }
  u64() { return this.view.getBigUint64(this.skip(8), true); }
  f32() { return this.view.getFloat32(this.skip(4), true); }
  f64() { return this.view.getFloat64(this.skip(8), true); }
}

export function readerSample(bytes) {
  const r = new Reader(bytes);
  return { seq: r.u64(), stamp: r.f64(), x: r.f32(), id: r.u32(), ok: r.u8() === 1 };
}

export function trace(bytes) {
  const start = bytes.byteOffset + 4;
  return { values: new Float32Array(bytes.buffer.slice(start, bytes.byteOffset + bytes.length)) };
}
"""
HAND_JS += """
export function cloud(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getUint32(0, true);
  const points = [];
  for (let i = 0, at = 4; i < count; i++, at += 12) {
    points.push({
      x: view.getFloat32(at, true),
      y: view.getFloat32(at + 4, true),
      z: view.getFloat32(at + 8, true),
    });
  }
  return { points };
}
"""
MAIN_JS = """
import * as hand from "./hand.mjs";
import * as sample from "./sample.mjs";
import * as trace from "./trace.mjs";
import * as cloud from "./cloud.mjs";

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];
let sink = 0;

function compare(name, mine, theirs, inputs, rounds, count) {
  const loops = [mine, theirs].map((f) => new Function("f", "inputs", "count", `
    let last;
    for (let i = 0; i < count; i++) last = f(inputs[i % inputs.length]);
    return last;`));
  const time = (k) => {
    const start = process.hrtime.bigint();
    sink += Object.keys(loops[k]([mine, theirs][k], inputs, count)).length;
    return Number(process.hrtime.bigint() - start);
  };
  const ratios = [];
  for (let round = 0; round < rounds; round++) {
    const first = round & 1;
    const times = [];
    times[first] = time(first);
    times[1 - first] = time(1 - first);
    if (round > rounds / 10) ratios.push(times[0] / times[1]);
  }
  console.log(`${name} ${median(ratios).toFixed(3)}`);
}

const samples = Array.from({ length: 64 }, (_, i) =>
  sample.encodeSample({ seq: BigInt(i), stamp: i / 2, x: i / 4, id: i, ok: i % 2 === 0 }));
const traces = [trace.encodeTrace({ values: Float32Array.from({ length: 100000 }, (_, i) => i) })];
compare("ts.struct.offsets", sample.decodeSample, hand.sample, samples, 80, 50000);
compare("ts.struct.reader", sample.decodeSample, hand.readerSample, samples, 80, 50000);
compare("ts.array.copy", trace.decodeTrace, hand.trace, traces, 60, 100);
const clouds = [cloud.encodeCloud({ points: Array.from({ length: 10000 }, (_, i) => ({ x: i, y: -i, z: 0 })) })];
compare("ts.rows", cloud.decodeCloud, hand.cloud, clouds, 60, 20);
"""
MAIN_RS = """
mod cloud;
mod sample;
mod trace;

use std::hint::black_box;
use std::time::Instant;

struct ByHand { seq: u64, stamp: f64, x: f32, id: u32, ok: bool }

#[inline(never)]
fn hand_sample(data: &[u8]) -> Option<ByHand> {
    if data.len() < 25 { return None; }
    let ok = match data[24] { 0 => false, 1 => true, _ => return None };
    Some(ByHand {
        seq: u64::from_le_bytes(data[0..8].try_into().ok()?),
        stamp: f64::from_le_bytes(data[8..16].try_into().ok()?),
        x: f32::from_le_bytes(data[16..20].try_into().ok()?),
        id: u32::from_le_bytes(data[20..24].try_into().ok()?),
        ok,
    })
}

#[inline(never)]
fn made_sample(data: &[u8]) -> Result<sample::Sample, sample::DecodeError> { sample::Sample::from_bytes(data) }

#[inline(never)]
fn hand_trace(data: &[u8]) -> Vec<f32> {
    let count = (data.len() - 4) / 4;
    let mut out = Vec::<f32>::with_capacity(count);
    unsafe {
        std::ptr::copy_nonoverlapping(data.as_ptr().add(4), out.as_mut_ptr() as *mut u8, count * 4);
        out.set_len(count);
    }
    out
}

#[inline(never)]
fn made_trace(data: &[u8]) -> Result<trace::Trace, trace::DecodeError> { trace::Trace::from_bytes(data) }

struct HandPoint { x: f32, y: f32, z: f32 }

#[inline(never)]
fn hand_cloud(data: &[u8]) -> Vec<HandPoint> {
    let number = |c: &[u8]| f32::from_le_bytes(c.try_into().unwrap());
    data[4..]
        .chunks_exact(12)
        .map(|c| HandPoint { x: number(&c[0..4]), y: number(&c[4..8]), z: number(&c[8..12]) })
        .collect()
}

#[inline(never)]
fn made_cloud(data: &[u8]) -> Result<cloud::Cloud, cloud::DecodeError> { cloud::Cloud::from_bytes(data) }

fn time(count: usize, f: &dyn Fn(usize)) -> f64 {
    let start = Instant::now();
    for i in 0..count { f(i); }
    start.elapsed().as_secs_f64()
}

fn compare(name: &str, rounds: usize, count: usize, mine: &dyn Fn(usize), theirs: &dyn Fn(usize)) {
    let mut ratios = vec![];
    for round in 0..rounds {
        let (a, b) = if round % 2 == 0 {
            let a = time(count, mine);
            (a, time(count, theirs))
        } else {
            let b = time(count, theirs);
            (time(count, mine), b)
        };
        ratios.push(a / b);
    }
    ratios.sort_by(|a, b| a.partial_cmp(b).unwrap());
    println!("{name} {:.3}", ratios[ratios.len() / 2]);
}

fn main() {
    let samples: Vec<Vec<u8>> = (0..64u32)
        .map(|i| sample::Sample { seq: i as u64, stamp: 0.5, x: 1.5, id: i, ok: i % 2 == 0 }.to_bytes())
        .collect();
    let data = trace::Trace { values: (0..100_000).map(|i| i as f32).collect() }.to_bytes();
    let hand = hand_sample(&samples[3]).unwrap();
    assert!(hand.seq == 3 && hand.stamp == 0.5 && hand.x == 1.5 && hand.id == 3 && !hand.ok);
    compare("rust.struct", 60, 200_000,
        &|i| { black_box(made_sample(black_box(&samples[i % 64])).is_ok()); },
        &|i| { black_box(hand_sample(black_box(&samples[i % 64])).is_some()); });
    compare("rust.array.copy", 60, 50,
        &|_| { black_box(made_trace(black_box(&data)).unwrap()); },
        &|_| { black_box(hand_trace(black_box(&data))); });
    let points = (0..10_000).map(|i| cloud::Point { x: i as f32, y: 0.5, z: 1.5 }).collect();
    let data = cloud::Cloud { points }.to_bytes();
    let hand = hand_cloud(&data);
    assert!(hand.len() == 10_000 && hand[3].x == 3.0 && hand[3].y == 0.5 && hand[3].z == 1.5);
    compare("rust.rows", 60, 200,
        &|_| { black_box(made_cloud(black_box(&data)).unwrap()); },
        &|_| { black_box(hand_cloud(black_box(&data))); });
}
"""
MAIN_CPP = """
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "cloud.hpp"
#include "sample.hpp"
#include "trace.hpp"

struct ByHand { std::uint64_t seq; double stamp; float x; std::uint32_t id; bool ok; };

__attribute__((noinline)) bool hand_sample(const std::uint8_t* p, std::size_t size, ByHand& out) {
  if (size < 25 || p[24] > 1) return false;
  std::memcpy(&out.seq, p, 8);
  std::memcpy(&out.stamp, p + 8, 8);
  std::memcpy(&out.x, p + 16, 4);
  std::memcpy(&out.id, p + 20, 4);
  out.ok = p[24] == 1;
  return true;
}
__attribute__((noinline)) bool made_sample(const std::uint8_t* p, std::size_t size, a::Sample& out) {
  return !a::from_bytes(p, size, out);
}
__attribute__((noinline)) std::size_t hand_trace(const std::uint8_t* p, std::size_t size, std::vector<float>& out) {
  out.resize((size - 4) / 4);
  std::memcpy(out.data(), p + 4, size - 4);
  return out.size();
}
__attribute__((noinline)) std::size_t made_trace(const std::uint8_t* p, std::size_t size, b::Trace& out) {
  return b::from_bytes(p, size, out) ? 0 : out.values.size();
}

struct HandPoint { float x; float y; float z; };

__attribute__((noinline)) std::size_t hand_cloud(const std::uint8_t* p, std::size_t size, std::vector<HandPoint>& out) {
  out.resize((size - 4) / 12);
  p += 4;
  for (auto& one : out) {
    std::memcpy(&one.x, p, 4);
    std::memcpy(&one.y, p + 4, 4);
    std::memcpy(&one.z, p + 8, 4);
    p += 12;
  }
  return out.size();
}
__attribute__((noinline)) std::size_t made_cloud(const std::uint8_t* p, std::size_t size, c::Cloud& out) {
  return c::from_bytes(p, size, out) ? 0 : out.points.size();
}

volatile std::size_t sink;

template <class F>
double timed(int count, F f) {
  const auto start = std::chrono::steady_clock::now();
  std::size_t sum = 0;
  for (int i = 0; i < count; i++) sum += f(i);
  sink = sum;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class F, class G>
void compare(const char* name, int rounds, int count, F mine, G theirs) {
  std::vector<double> ratios;
  for (int round = 0; round < rounds; round++) {
    double a = 0, b = 0;
    if (round % 2) a = timed(count, mine);
    b = timed(count, theirs);
    if (round % 2 == 0) a = timed(count, mine);
    ratios.push_back(a / b);
  }
  std::sort(ratios.begin(), ratios.end());
  std::printf("%s %.3f\\n", name, ratios[ratios.size() / 2]);
}

int main() {
  std::vector<std::vector<std::uint8_t>> samples;
  for (std::uint32_t i = 0; i < 64; i++) samples.push_back(a::to_bytes(a::Sample{i, 0.5, 1.5f, i, i % 2 == 0}));
  const auto data = b::to_bytes(b::Trace{std::vector<float>(100000, 1.5f)});
  a::Sample made;
  ByHand hand;
  compare("cpp.struct", 60, 500000,
      [&](int i) { return made_sample(samples[i % 64].data(), 25, made) + made.id; },
      [&](int i) { return hand_sample(samples[i % 64].data(), 25, hand) + hand.id; });
  compare("cpp.array.copy", 60, 50,
      [&](int) { b::Trace out; return made_trace(data.data(), data.size(), out); },
      [&](int) { std::vector<float> out; return hand_trace(data.data(), data.size(), out); });
  const auto cloud = c::to_bytes(c::Cloud{std::vector<c::Point>(10000, c::Point{1, 2, 3})});
  compare("cpp.rows", 60, 200,
      [&](int) { c::Cloud out; return made_cloud(cloud.data(), cloud.size(), out); },
      [&](int) { std::vector<HandPoint> out; return hand_cloud(cloud.data(), cloud.size(), out); });
}
"""


def run_ts(folder: Path) -> str:
    for cls in (Sample, Trace, Cloud):
        text = typescript(codec(cls).schema, js=True)
        (folder / f"{cls.__name__.lower()}.mjs").write_text(text, encoding="utf-8")
    (folder / "hand.mjs").write_text(HAND_JS)
    (folder / "main.mjs").write_text(MAIN_JS)
    return _output("node", "main.mjs", folder=folder)


def run_rust(folder: Path) -> str:
    for cls in (Sample, Trace, Cloud):
        (folder / f"{cls.__name__.lower()}.rs").write_text(rust(codec(cls).schema), encoding="utf-8")
    (folder / "main.rs").write_text(MAIN_RS)
    _output("rustc", "--edition", "2021", "-C", "opt-level=3", "main.rs", folder=folder)
    return _output(str(folder / "main"), folder=folder)


def run_cpp(folder: Path) -> str:
    for cls, space in ((Sample, "a"), (Trace, "b"), (Cloud, "c")):
        text = cpp(codec(cls).schema, namespace=space)
        (folder / f"{cls.__name__.lower()}.hpp").write_text(text, encoding="utf-8")
    (folder / "main.cpp").write_text(MAIN_CPP)
    _output("g++", "-std=c++17", "-O2", "-o", "main", "main.cpp", folder=folder)
    return _output(str(folder / "main"), folder=folder)


def _output(*command: str, folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def main(names: list[str]) -> None:
    programs = {"ts": ("node", run_ts), "rust": ("rustc", run_rust), "cpp": ("g++", run_cpp)}
    print(f"{'decode':20} time of generated code / of code by hand")
    for name in names or programs:
        program, run = programs[name]
        if shutil.which(program) is None:
            print(f"{name}: {program} is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            for line in run(Path(folder)).splitlines():
                case, ratio = line.split(" ")
                print(f"{case:20} {ratio}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
