#include "wire/messages.hpp"

#include <bit>
#include <charconv>
#include <mutex>
#include <set>

#include "kindred/error.hpp"
#include "wire/variant_codec.hpp"

namespace kindred::internal::cluster {
namespace {

constexpr std::uint32_t magic = 0x31646e6bU;  // "knd1"
constexpr std::size_t head_bytes = sizeof magic + sizeof(BuildToken) + sizeof(Epoch);

// Places in the code are few, and a record that was kept may name its own for as long as the program runs.
// The first places that a node names are kept, and none beyond this number: it may invent them.
std::string_view kept_for_ever(const std::string& text) {
  constexpr std::size_t most = 65'536;
  static std::mutex mutex;
  static std::set<std::string, std::less<>> texts;
  const std::scoped_lock lock{mutex};
  const auto known = texts.find(text);
  if (known != texts.end()) return *known;
  if (texts.size() >= most || text.size() > 4096) return {};
  return *texts.insert(text).first;
}

WireField to_wire(const Field& field) {
  WireField wire{
      .key = field.key, .kind = static_cast<std::uint8_t>(field.value.index()), .number = 0, .text = {}};
  std::visit(
      [&wire](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>)
          wire.text = value;
        else if constexpr (std::is_same_v<T, double>)
          wire.number = std::bit_cast<std::uint64_t>(value);
        else
          wire.number = static_cast<std::uint64_t>(value);
      },
      field.value);
  return wire;
}

FieldValue value_of(WireField& wire) {
  switch (wire.kind) {
    case 0: return wire.number != 0;
    case 1: return static_cast<std::int64_t>(wire.number);
    case 2: return wire.number;
    case 3: return std::bit_cast<double>(wire.number);
    default: return std::move(wire.text);
  }
}

template <class Enum>
Enum within(std::uint8_t value, Enum last) {
  return value <= static_cast<std::uint8_t>(last) ? static_cast<Enum>(value) : last;
}

void check(const Message& message) {
  if (const auto* const result = std::get_if<Result>(&message);
      result != nullptr && (result->kind > EndKind::returned ||
                            result->exit_kind > static_cast<std::uint8_t>(ExitReason::Kind::lost)))
    throw DecodeError{"a result of an unknown kind"};
  if (const auto* const cancel = std::get_if<Cancel>(&message);
      cancel != nullptr && cancel->how > Running::kill)
    throw DecodeError{"a cancel of an unknown kind"};
}

}  // namespace

BuildToken build_token(std::string_view build_id) {
  BuildToken token = 0;
  const char* const end = build_id.data() + std::min<std::size_t>(build_id.size(), 16);
  if (build_id.size() < 16 || std::from_chars(build_id.data(), end, token, 16).ptr != end) {
    throw UsageError{"the program has the build id '" + std::string{build_id} +
                     "', and a cluster tells builds apart by it. Link it with -Wl,--build-id=sha1."};
  }
  return token;
}

Bytes encode(BuildToken build, Epoch epoch, const Message& message) {
  Bytes out;
  ArchiveWriter{out}(magic, build, epoch);
  encode_variant(out, message);
  return out;
}

std::optional<Envelope> decode(BuildToken mine, std::span<const std::byte> bytes) {
  ArchiveReader reader{bytes};
  std::uint32_t mark = 0;
  BuildToken build = 0;
  Envelope envelope;
  std::uint8_t kind = 0;
  reader(mark, build, envelope.epoch, kind);
  if (mark != magic) throw DecodeError{"the message does not begin with knd1"};
  if (build != mine && kind != 0) return std::nullopt;
  envelope.message = decode_variant<Message>(bytes.subspan(head_bytes));
  check(envelope.message);
  return envelope;
}

WireRecord to_wire(const LogRecord& record) {
  WireRecord wire;
  wire.time_ns = record.time.time_since_epoch().count();
  wire.level = static_cast<std::uint8_t>(record.level);
  wire.level_name = record.level_name;
  wire.logger = record.logger;
  wire.message = record.message;
  wire.file = record.source.file;
  wire.function = record.source.function;
  wire.line = record.source.line;
  wire.worker = record.worker;
  wire.incarnation = record.incarnation;
  wire.pid = record.pid;
  wire.tid = record.tid;
  wire.task = record.task_id;
  wire.task_name = record.task_name;
  wire.attempt = record.attempt;
  wire.sequence = record.sequence;
  wire.origin = static_cast<std::uint8_t>(record.origin);
  for (const Field& field : record.fields) wire.values.push_back(to_wire(field));
  return wire;
}

LogRecord from_wire(WireRecord wire) {
  LogRecord record;
  record.time = decltype(record.time){std::chrono::nanoseconds{wire.time_ns}};
  record.level = within(wire.level, Level::off);
  record.level_name = std::move(wire.level_name);
  record.logger = std::move(wire.logger);
  record.message = std::move(wire.message);
  record.source = {kept_for_ever(wire.file), wire.line, kept_for_ever(wire.function)};
  record.worker = wire.worker;
  record.incarnation = wire.incarnation;
  record.pid = wire.pid;
  record.tid = wire.tid;
  record.task_id = wire.task;
  record.task_name = std::move(wire.task_name);
  record.attempt = wire.attempt;
  record.sequence = wire.sequence;
  record.origin = within(wire.origin, Origin::crash);
  for (WireField& field : wire.values) record.fields.push_back({std::move(field.key), value_of(field)});
  return record;
}

}  // namespace kindred::internal::cluster
