// The collector's drain over a log area that is anything: control page, lanes' words, site dictionary and
// records.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "collect/drain.hpp"
#include "fuzz.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/log_area.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/sink.hpp"
#include "record/delivery.hpp"
#include "record/site.hpp"

using namespace kindred;
using namespace kindred::internal;
using kindred::fuzz::Bytes;

namespace {

/// Makes each line straight from the record's bytes, and over a whole record: they must be the same.
class FormatSink final : public Sink {
 public:
  void write(const LogRecord& record) override {
    Delivery delivery{record};
    deliver(delivery);
  }
  void deliver(Delivery& delivery) override {
    append(pattern_, delivery, line_);
    append(json_, delivery, json_line_);
    const LogRecord& record = delivery.whole();
    append(pattern_of_whole_, record, text_);
    if (text_.view() != line_.view()) __builtin_trap();
    append(json_of_whole_, record, text_);
    if (text_.view() != json_line_.view()) __builtin_trap();
  }
  [[nodiscard]] bool takes_facts() const noexcept override { return true; }
  void flush() override {}

 private:
  template <class Formatter, class Record>
  static void append(Formatter& formatter, Record& record, TextBuffer& out) {
    out.clear();
    formatter.append(record, out);
  }

  TextBuffer text_;
  TextBuffer line_;
  TextBuffer json_line_;
  PatternFormatter pattern_{""};
  PatternFormatter pattern_of_whole_{""};
  JsonFormatter json_;
  JsonFormatter json_of_whole_;
};

LogOptions small_log(bool overwrite) {
  LogOptions options;
  options.lane_bytes = options.thread_lane_bytes = 16 * 1024;
  options.thread_lanes = 1;
  options.site_bytes = 4096;
  options.keep_bytes = 64 * 1024;
  options.when_full = overwrite ? WhenFull::drop_oldest : WhenFull::block;
  return options;
}

}  // namespace

// u8: bit 0 overwrite, bits 1..2 lane; u16 bytes of dictionary, dictionary; then steps of u8 kind: 0 a record
// (u16 bytes, bytes), 1 the lane's cursor moves by i16, 2 a word of control page or lines is written (u16 at,
// u64), 3 a round.
KINDRED_FUZZ_TARGET(drain) {
  Bytes bytes{input};
  const auto first = bytes.value<std::uint8_t>();
  const LogOptions options = small_log((first & 1U) != 0);
  const LogAreaShape shape{options};
  const std::unique_ptr<std::byte, void (*)(void*)> memory{
      static_cast<std::byte*>(std::aligned_alloc(4096, log_area_bytes(options))), std::free};
  std::memset(memory.get(), 0, log_area_bytes(options));
  const std::span<std::byte> area{memory.get(), log_area_bytes(options)};
  format_log_area(area, options);
  auto& control = *reinterpret_cast<LogControl*>(area.data());
  const auto dictionary = bytes.take(bytes.value<std::uint16_t>() % (options.site_bytes + 1));
  std::memcpy(area.data() + shape.sites_offset(), dictionary.data(), dictionary.size());
  control.site_bytes_used.store(dictionary.size());
  const std::uint32_t lane = (first >> 1U) % shape.lanes;
  control.lanes_in_use.store(std::uint64_t{1} << lane);
  auto& lines = reinterpret_cast<LaneLines<>*>(area.data() + LogAreaShape::lines_offset)[lane];
  std::byte* const room = area.data() + shape.room_offset(lane);
  const std::size_t room_bytes = shape.room_bytes(lane);

  Drain drain{options,
              {.task_name = [](std::uint64_t) { return std::string{"task"}; }, .corrupt = {}},
              std::make_shared<History>(options.keep_bytes)};
  drain.begin();
  drain.sinks.add(SinkId{1}, std::make_unique<FormatSink>(), {});
  drain.add_source(std::make_unique<Source>(SourceId{1},
                                            SourceIdentity{.worker = 3, .incarnation = 1, .pid = 77}, area,
                                            shape, nullptr, std::make_shared<SourceCounters>()));
  for (int steps = 0; steps < 64 && !bytes.empty(); ++steps) {
    switch (bytes.value<std::uint8_t>() % 4) {
      case 0: {
        const auto record = bytes.take(bytes.value<std::uint16_t>());
        const auto published = lines.published.load();
        const auto at = static_cast<std::size_t>(published) & (room_bytes - 1) & ~std::size_t{7};
        std::memcpy(room + at, record.data(), std::min(record.size(), room_bytes - at));
        lines.published.store(published + (record.size() + 7) / 8 * 8);
        break;
      }
      case 1:
        lines.published.store(lines.published.load() +
                              static_cast<std::uint64_t>(bytes.value<std::int16_t>()));
        break;
      case 2: {
        const std::size_t at = bytes.value<std::uint16_t>() % shape.sites_offset() / 8 * 8;
        const auto word = bytes.value<std::uint64_t>();
        std::memcpy(area.data() + at, &word, sizeof word);
        break;
      }
      default: (void)drain.round(true, [] {}); break;
    }
  }
  (void)drain.round(true, [] {});
  drain.report_quiet_drops();
  if (Source* const source = drain.find_source(SourceId{1})) source->ended = true;
  (void)drain.round(true, [] {});
  (void)drain.end_source(SourceId{1});
}

KINDRED_FUZZ_SEEDS(drain) {
  std::vector<std::byte> dictionary;
  const char types[] = {static_cast<char>(ArgType::int32), static_cast<char>(ArgType::string),
                        static_cast<char>(ArgType::real64), 0};
  encode_site(dictionary, {.format = "a {} b {:>8} c {:.3f}",
                           .file = "main.cpp",
                           .function = "area",
                           .types = types,
                           .level_name = {},
                           .line = 7,
                           .level = Level::info});
  std::vector<std::byte> all;
  const auto put = [&](const auto& value) {
    const auto* const from = reinterpret_cast<const std::byte*>(&value);
    all.insert(all.end(), from, from + sizeof value);
  };
  const auto begin = [&](std::uint8_t flags) {
    all.clear();
    put(flags);
    put(static_cast<std::uint16_t>(dictionary.size()));
    all.insert(all.end(), dictionary.begin(), dictionary.end());
  };
  const auto record = [&](std::uint32_t site, std::uint64_t ticks, std::string_view arguments) {
    const std::uint32_t size = static_cast<std::uint32_t>((16 + arguments.size() + 7) / 8 * 8);
    put(std::uint8_t{0});
    put(static_cast<std::uint16_t>(size));
    put(size);
    put(site);
    put(ticks);
    all.insert(all.end(), reinterpret_cast<const std::byte*>(arguments.data()),
               reinterpret_cast<const std::byte*>(arguments.data() + arguments.size()));
    all.resize(all.size() + size - 16 - arguments.size());
  };
  using namespace std::string_view_literals;
  for (const unsigned flags : {0U, 1U, 2U, 4U}) {
    begin(static_cast<std::uint8_t>(flags));
    record(0, 1, "\x05\0\0\0\x03\0\0\0abc\0\0\0\0\0\0\xf0\x3f"sv);
    put(std::uint8_t{3});
    record(record_site::gap, 2, "\x05\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0"sv);
    record(record_site::raw, 3, "\x02\0\0\0\x05\0\0\0from a handler"sv);
    record(record_site::begin, 4, "\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0abcdefgh"sv);
    record(record_site::more, 5, "\x08\0\0\0\0\0\0\0ijklmnopqrstuvwxyz0123456"sv);
    put(std::uint8_t{3});
    seed("lane" + std::to_string(flags), all);
  }
  const auto inlined = [&](std::string_view format, std::string_view kinds, std::string_view arguments) {
    std::vector<std::byte> site;
    encode_site(site, {.format = format,
                       .file = "f",
                       .function = "g",
                       .types = kinds,
                       .level_name = "notice",
                       .line = 1,
                       .level = Level::warn});
    std::string text(4, '\0');
    const auto bytes = static_cast<std::uint32_t>(site.size());
    std::memcpy(text.data(), &bytes, sizeof bytes);
    text.append(reinterpret_cast<const char*>(site.data()), site.size());
    text.append(arguments);
    begin(0);
    record(record_site::inlined, 1, text);
    seed("inlined_" + std::to_string(format.size()), all);
  };
  const char text_type[] = {static_cast<char>(ArgType::message), 0};
  inlined("", text_type, "\x03\0\0\0xyz"sv);
  const char number_type[] = {static_cast<char>(ArgType::uint64), static_cast<char>(ArgType::boolean), 0};
  inlined("{1} {0:#x}", number_type, "\x03\0\0\0\0\0\0\0\x01"sv);
  begin(0);
  for (const std::uint32_t control :
       {record_site::thread, record_site::task, record_site::scope, record_site::binding}) {
    put(std::uint8_t{0});
    put(std::uint16_t{40});
    put(std::uint32_t{40});
    put(control);
    for (int i = 0; i < 32; ++i) put(static_cast<std::uint8_t>(i == 8 ? 3 : 0));
  }
  seed("controls", all);
}
