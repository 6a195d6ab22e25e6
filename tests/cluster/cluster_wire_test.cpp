#include <chrono>
#include <cstdint>
#include <limits>
#include <random>

#include "kindred/error.hpp"

#include <fmt/format.h>

#include "cluster/world.hpp"
#include "engine/nats/names.hpp"
#include "support/test.hpp"
#include "wire/sha256.hpp"
#include "wire/told_time.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

Result full_result() {
  Result result;
  result.task = 41;
  result.kind = EndKind::lost;
  result.worker = 3;
  result.bytes = bytes_of("bytes");
  result.exit_signal = 9;
  result.core_dumped = true;
  result.lines = {"[warn] one", "[info] two"};
  result.text = "more";
  return result;
}

}  // namespace

TEST_CASE("a message is read back as it was written") {
  const auto envelope =
      decode(build_token(build_a), encode(build_token(build_a), 77, Message{full_result()}));
  REQUIRE(envelope);
  CHECK(envelope->epoch == 77);
  const auto back = std::get<Result>(envelope->message);
  CHECK(back.task == 41);
  CHECK(back.kind == EndKind::lost);
  CHECK(back.worker == 3);
  CHECK(text_of(back.bytes) == "bytes");
  CHECK(back.exit_signal == 9);
  CHECK(back.core_dumped);
  CHECK(back.lines == std::vector<std::string>{"[warn] one", "[info] two"});
  CHECK(back.text == "more");
}

TEST_CASE("a message that was cut anywhere is refused") {
  const auto mine = build_token(build_a);
  Manifest manifest;
  manifest.name = "job";
  manifest.initializer.code.modules = {{2, "/lib/x.so", "aa"}};
  LogBatch batch;
  batch.records.push_back(to_wire(LogRecord{}));
  for (const Message& message : {Message{full_result()}, Message{manifest}, Message{batch},
                                 Message{Status{.node = "n", .held = {{}}}}}) {
    const Bytes whole = encode(mine, 1, message);
    for (std::size_t size = 0; size < whole.size(); ++size)
      CHECK_THROWS_AS((void)decode(mine, std::span{whole}.first(size)), DecodeError);
    Bytes longer = whole;
    longer.push_back(std::byte{0});
    CHECK_THROWS_AS((void)decode(mine, longer), DecodeError);
  }
}

TEST_CASE("no bytes make the decoder crash or take much memory") {
  std::mt19937 random{5};
  const auto mine = build_token(build_a);
  const std::vector<Bytes> whole = {
      encode(mine, 1, Message{full_result()}),
      encode(mine, 1, Message{Grant{.job = 1, .name = "n", .arguments = Bytes(20)}}),
      encode(mine, 1, Message{Permits{.permits = {{}, {}}}})};
  for (int i = 0; i < 200'000; ++i) {
    Bytes bytes = whole[random() % whole.size()];
    const auto changes = 1 + random() % 4;
    for (unsigned c = 0; c < changes; ++c) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    try {
      (void)decode(mine, bytes);
    } catch (const DecodeError&) {}
  }
}

TEST_CASE("a message of another build is not decoded, but for a node's beat") {
  const auto mine = build_token(build_a);
  const auto other = build_token(build_b);
  CHECK_FALSE(decode(mine, encode(other, 1, Message{Grant{.job = 1}})));
  CHECK_FALSE(decode(mine, encode(other, 1, Message{HeadBeat{.job = 1}})));
  CHECK(decode(mine, encode(other, 1, Message{NodeBeat{.node = "n"}})));
  CHECK(decode(mine, encode(mine, 1, Message{Grant{.job = 1}})));
  // Not even where its members make no sense.
  Bytes cut = encode(other, 1, Message{Grant{.job = 1}});
  cut.resize(23);
  CHECK_FALSE(decode(mine, cut));
}

TEST_CASE("a program without a build id is refused") {
  CHECK_THROWS_CONTAINS((void)build_token(""), UsageError, "--build-id");
  CHECK_THROWS_CONTAINS((void)build_token("12"), UsageError, "--build-id");
  CHECK(build_token(build_a) == 0x0123456789abcdefULL);
}

TEST_CASE("a log record keeps its fields over the wire") {
  LogRecord record;
  record.level = Level::warn;
  record.message = "text";
  record.worker = 2;
  record.origin = Origin::stderr;
  record.source = {"file.cpp", 7, "f"};
  record.fields = {{"a", true}, {"b", std::int64_t{-3}}, {"c", std::uint64_t{4}}, {"d", 2.5}, {"e", "s"}};
  const LogRecord back = from_wire(to_wire(record));
  CHECK(back.level == Level::warn);
  CHECK(back.message == "text");
  CHECK(back.worker == 2);
  CHECK(back.origin == Origin::stderr);
  CHECK(back.source.file == "file.cpp");
  CHECK(back.source.line == 7);
  REQUIRE(back.fields.size() == 5);
  CHECK(std::get<bool>(back.fields[0].value));
  CHECK(std::get<std::int64_t>(back.fields[1].value) == -3);
  CHECK(std::get<std::uint64_t>(back.fields[2].value) == 4);
  CHECK(std::get<double>(back.fields[3].value) == 2.5);
  CHECK(std::get<std::string>(back.fields[4].value) == "s");
}

TEST_CASE("SHA-256 gives what the standard's examples have") {
  const auto hex = [](std::string_view text) {
    std::string out;
    for (const char each : sha256(bytes_of(text)))
      out += fmt::format("{:02x}", static_cast<unsigned char>(each));
    return out;
  };
  CHECK(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST_CASE("the names on a NATS server hold cluster, epoch, build and job, and what it answers is read") {
  const NatsNames names{"render"};
  CHECK(names.stream({StreamKind::tasks, 12}) == "KN_render_12_TASKS");
  CHECK(names.stream({StreamKind::jobs, 0}) == "KV_KN_render_jobs");
  CHECK(names.subject(Place{{StreamKind::results, 12}, "job.7"}) == "kn.render.12.result.job.7");
  CHECK(names.filter({12, "abcd", 'h'}) == "kn.render.12.task.abcd.h.>");
  CHECK(NatsNames::consumer({12, "abcd", 'h'}) == "abcd_h");
  AckSubject ack;
  REQUIRE(parse_ack_subject("$JS.ACK.KN_render_12_TASKS.abcd_h.2.30.4.1700000000.5", ack));
  CHECK(ack.delivered == 2);
  CHECK(ack.stream_sequence == 30);
  CHECK(ack.consumer_sequence == 4);
  CHECK(epoch_of(ack.stream) == 12);
  REQUIRE(parse_ack_subject("$JS.ACK.hub.acc.KN_a_b_9_TASKS.abcd_h.2.30.4.1700000000.5.token", ack));
  CHECK(epoch_of(ack.stream) == 9);
  CHECK_FALSE(parse_ack_subject("_INBOX.x.3", ack));
  CHECK(json_number(R"({"stream":"S","seq":42,"duplicate": true})", "seq") == 42);
  CHECK(json_text(R"({"error":{"description":"no \"such\" stream"}})", "description") ==
        "no \"such\" stream");
  CHECK(text_of(from_base64("aGVsbG8=")) == "hello");
  CHECK_THROWS_AS((void)from_base64("a*"), DecodeError);
}

TEST_CASE("times that another machine has told may be any numbers") {
  constexpr auto least = std::numeric_limits<std::int64_t>::min();
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  CHECK(told_difference(7, 4) == 3);
  CHECK(told_difference(0, least) == least);
  CHECK(told_difference(most, least) == -1);
  CHECK(told_duration(5) == std::chrono::nanoseconds{5});
  CHECK(told_duration(least) == std::chrono::nanoseconds{0});
  CHECK(told_duration(most) == std::chrono::hours{24 * 365});
}
