// The control socket between parent and worker.
#include <array>
#include <cstddef>
#include <string_view>

#include "kindred/internal/message_socket.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

TEST_CASE("what a peer sent before it died is received, also where it died with messages unread") {
  auto [here, there] = MessageSocket::pair();
  const auto say = [](const MessageSocket& socket, std::string_view text) {
    return socket.send(std::as_bytes(std::span{text}));
  };
  CHECK(say(there, "the last word") == MessageSocket::Sent::yes);
  CHECK(say(there, "and another") == MessageSocket::Sent::yes);
  CHECK(say(here, "never read") == MessageSocket::Sent::yes);
  there.close();
  for (const std::string_view expected : {"the last word", "and another"}) {
    bool closed = false;
    const auto message = here.receive(std::chrono::steady_clock::time_point{}, &closed);
    CHECK_FALSE(closed);
    REQUIRE(message);
    CHECK(std::string_view{reinterpret_cast<const char*>(message->bytes.data()), message->bytes.size()} ==
          expected);
  }
  bool closed = false;
  CHECK_FALSE(here.receive(std::chrono::steady_clock::time_point{}, &closed));
  CHECK(closed);
}
