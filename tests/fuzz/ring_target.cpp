// The parent's end of a result ring, and of a lane, over memory and cursors that are anything.
#include <memory>
#include <vector>

#include "fuzz.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/ring.hpp"

using namespace kindred::internal;
using kindred::fuzz::Bytes;

namespace {
volatile std::byte sink;
template <class Cursor>
void read_ring(Bytes& bytes) {
  std::vector<std::byte> room(256);  // of its own, so that a byte beyond it is seen
  RingCursors<Cursor> cursors;
  RingReader<Cursor> reader{room, cursors};
  while (!bytes.empty() && !reader.corrupt()) {
    const auto at = bytes.value<std::uint8_t>();
    const auto word = bytes.value<std::uint32_t>();
    std::memcpy(room.data() + at / 4 * 4, &word, sizeof word);
    cursors.published.store(
        static_cast<Cursor>(cursors.published.load() + static_cast<Cursor>(bytes.value<std::int16_t>())));
    for (int i = 0; i < 40; ++i) {
      const auto message = reader.next();
      if (message.empty()) break;
      for (const auto byte : message) sink = byte;
    }
    if (at % 2 == 0) reader.release();
  }
}
}  // namespace

KINDRED_FUZZ_TARGET(ring) {
  Bytes bytes{input};
  switch (bytes.value<std::uint8_t>() % 3) {
    case 0: return read_ring<std::uint64_t>(bytes);
    case 1: return read_ring<std::uint16_t>(bytes);
    default: break;
  }
  // A writer whose reader lies about what it has consumed.
  std::vector<std::byte> room(256);
  RingCursors<> cursors;
  RingWriter<> writer{room, cursors};
  while (!bytes.empty()) {
    cursors.consumed.store(cursors.consumed.load() + static_cast<std::uint64_t>(bytes.value<std::int16_t>()));
    const std::size_t wanted = bytes.value<std::uint8_t>() + std::size_t{1};
    const auto place = writer.reserve(wanted);
    if (place.empty()) continue;
    if (place.size() < wanted) __builtin_trap();
    for (auto& byte : place) byte = std::byte{1};
    writer.publish(wanted);
  }
}

KINDRED_FUZZ_SEEDS(ring) {
  const std::byte one_message[] = {std::byte{0}, std::byte{0}, std::byte{16}, {}, {}, {}, std::byte{16}, {}};
  seed("one_message", one_message);
  const std::byte small_cursor[] = {std::byte{1},
                                    std::byte{0},
                                    std::byte{16},
                                    {},
                                    {},
                                    {},
                                    std::byte{16},
                                    {},
                                    std::byte{16},
                                    std::byte{240},
                                    {},
                                    {},
                                    std::byte{128},
                                    std::byte{240},
                                    {}};
  seed("padding", small_cursor);
  const std::byte writer[] = {std::byte{2},  {}, {}, std::byte{24}, {}, {}, std::byte{200}, std::byte{24}, {},
                              std::byte{100}};
  seed("writer", writer);
}
