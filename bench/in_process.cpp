// What fits into one process, with Google Benchmark: the parts of a call and of a record, each beside the
// library that would else do it and beside the least that can be done. Named <contestant>/<row>; bench/run
// asks for one at a time.
#include <benchmark/benchmark.h>
#include <fmt/compile.h>
#include <fmt/format.h>
#include <spdlog/pattern_formatter.h>

#include <array>
#include <boost/lockfree/spsc_queue.hpp>
#include <cereal/archives/binary.hpp>
#include <cereal/types/string.hpp>
#include <cereal/types/vector.hpp>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "floors/spsc_ring.hpp"
#include "kindred/codec.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/ring.hpp"

namespace {

namespace internal = kindred::internal;

// A message of 64 bytes into a ring and out of it, by one thread: the instructions, without the way between
// two cores.

using Message = std::array<std::uint64_t, 8>;
constexpr std::size_t slots = 1024;

void kindred_ring(benchmark::State& state) {
  const auto room = std::make_unique<std::array<std::byte, slots * sizeof(Message)>>();
  internal::RingCursors<> cursors;
  internal::RingWriter<> writer{*room, cursors};
  internal::RingReader<> reader{*room, cursors};
  Message message{1, 2, 3, 4, 5, 6, 7, 8};
  for (auto _ : state) {
    const auto free = writer.reserve(sizeof message);
    std::memcpy(free.data(), &message, sizeof message);
    writer.publish(sizeof message);
    const auto read = reader.next();
    std::memcpy(&message, read.data(), sizeof message);
    reader.release();
    benchmark::DoNotOptimize(message);
  }
}
BENCHMARK(kindred_ring)->Name("kindred/ring");

void lockfree_ring(benchmark::State& state) {
  boost::lockfree::spsc_queue<Message, boost::lockfree::capacity<slots>> queue;
  Message message{1, 2, 3, 4, 5, 6, 7, 8};
  for (auto _ : state) {
    queue.push(message);
    queue.pop(message);
    benchmark::DoNotOptimize(message);
  }
}
BENCHMARK(lockfree_ring)->Name("boost.lockfree/ring");

void plain_ring(benchmark::State& state) {
  const auto ring = std::make_unique<bench::SpscRing<Message, slots>>();
  Message message{1, 2, 3, 4, 5, 6, 7, 8};
  for (auto _ : state) {
    ring->try_push(message);
    ring->try_pop(message);
    benchmark::DoNotOptimize(message);
  }
}
BENCHMARK(plain_ring)->Name("limit/ring");

// The arguments of a call to bytes and back: a string, a double, a vector of 100 ints.

struct Arguments {
  std::string name = "a name of some length";
  double factor = 0.5;
  std::vector<std::int32_t> values = std::vector<std::int32_t>(100, 7);
};

void kindred_codec(benchmark::State& state) {
  const Arguments arguments;
  std::array<std::byte, 1024> room{};
  const auto grow = [](void*, std::span<const std::byte>, std::size_t) -> std::span<std::byte> {
    throw std::bad_alloc{};
  };
  for (auto _ : state) {
    internal::Encoder encoder{{}, room, grow, nullptr};
    internal::encode(encoder, arguments.name);
    internal::encode(encoder, arguments.factor);
    internal::encode(encoder, arguments.values);
    internal::Decoder decoder{{}, encoder.written()};
    benchmark::DoNotOptimize(internal::decode<std::string>(decoder));
    benchmark::DoNotOptimize(internal::decode<double>(decoder));
    benchmark::DoNotOptimize(internal::decode<std::vector<std::int32_t>>(decoder));
  }
}
BENCHMARK(kindred_codec)->Name("kindred/codec");

void cereal_codec(benchmark::State& state) {
  const Arguments arguments;
  for (auto _ : state) {
    std::stringstream stream;
    cereal::BinaryOutputArchive{stream}(arguments.name, arguments.factor, arguments.values);
    Arguments back{{}, 0, {}};
    cereal::BinaryInputArchive{stream}(back.name, back.factor, back.values);
    benchmark::DoNotOptimize(back);
  }
}
BENCHMARK(cereal_codec)->Name("cereal/codec");

void copied(benchmark::State& state) {
  const Arguments arguments;
  for (auto _ : state) {
    Arguments back{arguments};
    benchmark::DoNotOptimize(back);
  }
}
BENCHMARK(copied)->Name("limit/codec");

// A formatted record to a line with time, level, worker and message.

void kindred_line(benchmark::State& state) {
  kindred::LogRecord record;
  record.time = std::chrono::system_clock::now();
  record.message = "customer 4711 ordered 17 items for 4.25 euro";
  record.worker = 0;
  record.task_id = 41;
  record.task_name = "area";
  internal::PatternFormatter formatter{internal::default_pattern};
  internal::TextBuffer out;
  for (auto _ : state) {
    record.time += std::chrono::microseconds{1};
    out.clear();
    formatter.append(record, out);
    benchmark::DoNotOptimize(out);
  }
}
BENCHMARK(kindred_line)->Name("kindred/line");

void spdlog_line(benchmark::State& state) {
  spdlog::details::log_msg record{spdlog::log_clock::now(),
                                  {},
                                  "area",
                                  spdlog::level::info,
                                  "customer 4711 ordered 17 items for 4.25 euro"};
  spdlog::pattern_formatter formatter{"[%Y-%m-%d %H:%M:%S.%f%z] [%^%l%$] [%n#%t] %v"};
  spdlog::memory_buf_t out;
  for (auto _ : state) {
    record.time += std::chrono::microseconds{1};
    out.clear();
    formatter.format(record, out);
    benchmark::DoNotOptimize(out);
  }
}
BENCHMARK(spdlog_line)->Name("spdlog/line");

void plain_line(benchmark::State& state) {
  fmt::memory_buffer out;
  std::uint64_t microseconds = 0;
  const std::string second = "2026-07-26 14:03:11";
  const std::string message = "customer 4711 ordered 17 items for 4.25 euro";
  for (auto _ : state) {
    out.clear();
    fmt::format_to(std::back_inserter(out), FMT_COMPILE("[{}.{:06}+02:00] [{}] [w{} {}#{}] {}\n"), second,
                   ++microseconds % 1'000'000, "info", 0, "area", 41, message);
    benchmark::DoNotOptimize(out);
  }
}
BENCHMARK(plain_line)->Name("limit/line");

}  // namespace

BENCHMARK_MAIN();
