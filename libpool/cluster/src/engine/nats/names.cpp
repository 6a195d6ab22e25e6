#include "engine/nats/names.hpp"

#include <array>
#include <charconv>
#include <vector>

#include "kindred/internal/byte_stream.hpp"

namespace kindred::internal::cluster {
namespace {

struct Words {
  std::string_view subject;
  std::string_view stream;
};

Words words_of(StreamKind kind) {
  switch (kind) {
    case StreamKind::tasks: return {"task", "TASKS"};
    case StreamKind::results: return {"result", "RESULTS"};
    case StreamKind::log: return {"log", "LOG"};
    case StreamKind::blobs: return {"blob", "BLOB"};
    case StreamKind::nodes: return {"nodes", ""};
    case StreamKind::jobs: return {"jobs", ""};
    default: return {"epochs", ""};
  }
}

std::uint64_t number_of(std::string_view text) {
  std::uint64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::size_t after_name(std::string_view json, std::string_view name) {
  const std::string quoted = "\"" + std::string{name} + "\"";
  auto at = json.find(quoted);
  if (at == std::string_view::npos) return at;
  at = json.find_first_not_of(": \n\t", at + quoted.size());
  return at;
}

}  // namespace

std::string NatsNames::stream(const Stream& stream) const {
  const Words words = words_of(stream.kind);
  if (holds_keys(stream.kind)) return "KV_KN_" + cluster_ + "_" + std::string{words.subject};
  return "KN_" + cluster_ + "_" + std::to_string(stream.epoch) + "_" + std::string{words.stream};
}

std::string NatsNames::subject(const Place& place) const {
  const Words words = words_of(place.stream.kind);
  std::string text =
      holds_keys(place.stream.kind)
          ? "$KV.KN_" + cluster_ + "_" + std::string{words.subject}
          : "kn." + cluster_ + "." + std::to_string(place.stream.epoch) + "." + std::string{words.subject};
  if (!place.path.empty()) text += "." + place.path;
  return text;
}

std::string NatsNames::below(const Place& place) const { return subject(place) + ".>"; }

std::string NatsNames::subject(const Address& address) const {
  switch (address.kind) {
    case Address::Kind::heads: return "kn." + cluster_ + ".head";
    case Address::Kind::nodes: return "kn." + cluster_ + ".beat";
    case Address::Kind::job: return "kn." + cluster_ + ".job." + address.name;
    default: return "kn." + cluster_ + ".node." + address.name;
  }
}

std::string NatsNames::consumer(const Queue& queue) { return queue.build + "_" + queue.priority; }

std::string NatsNames::filter(const Queue& queue) const {
  return below({{StreamKind::tasks, queue.epoch}, queue.build + "." + queue.priority});
}

std::uint64_t json_number(std::string_view json, std::string_view name) {
  const auto at = after_name(json, name);
  return at == std::string_view::npos ? 0 : number_of(json.substr(at));
}

std::string json_text(std::string_view json, std::string_view name) {
  auto at = after_name(json, name);
  std::string text;
  if (at == std::string_view::npos || at >= json.size() || json[at] != '"') return text;
  for (++at; at < json.size() && json[at] != '"'; ++at) {
    if (json[at] == '\\' && at + 1 < json.size()) ++at;
    text += json[at];
  }
  return text;
}

Bytes from_base64(std::string_view text) {
  static const std::array<std::int8_t, 256> values = [] {
    std::array<std::int8_t, 256> made{};
    made.fill(-1);
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < digits.size(); ++i)
      made[static_cast<unsigned char>(digits[i])] = static_cast<std::int8_t>(i);
    return made;
  }();
  Bytes out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char each : text) {
    if (each == '=') break;
    const std::int8_t value = values[static_cast<unsigned char>(each)];
    if (value < 0) throw DecodeError{"the server's base64 has another character than its 64"};
    bits = (bits << 6U) | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<std::byte>((bits >> count) & 0xffU));
  }
  return out;
}

bool parse_ack_subject(std::string_view subject, AckSubject& out) {
  if (!subject.starts_with("$JS.ACK.")) return false;
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at <= subject.size();) {
    const auto dot = std::min(subject.find('.', at), subject.size());
    words.push_back(subject.substr(at, dot - at));
    at = dot + 1;
  }
  const std::size_t first = words.size() == 9 ? 2 : 4;
  if (words.size() < first + 7) return false;
  out.stream = words[first];
  out.delivered = number_of(words[first + 2]);
  out.stream_sequence = number_of(words[first + 3]);
  out.consumer_sequence = number_of(words[first + 4]);
  return true;
}

Epoch epoch_of(std::string_view stream) {
  const auto end = stream.rfind('_');
  if (end == std::string_view::npos || end == 0) return 0;
  const auto begin = stream.rfind('_', end - 1);
  return begin == std::string_view::npos ? 0 : number_of(stream.substr(begin + 1, end - begin - 1));
}

}  // namespace kindred::internal::cluster
