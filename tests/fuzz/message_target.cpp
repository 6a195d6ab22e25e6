// What a process is told when it starts (setup, the pool's part), and what a dying one leaves (the crash
// page).
#include <memory>
#include <vector>

#include "fuzz.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/crash_report.hpp"
#include "pool_setup.hpp"

using namespace kindred;
using namespace kindred::internal;
using kindred::fuzz::Bytes;

KINDRED_FUZZ_TARGET(message) {
  Bytes bytes{input};
  const auto which = bytes.value<std::uint8_t>() % 3;
  const auto rest = bytes.rest();
  if (which == 2) {
    static const CodeBook book;
    const std::unique_ptr<CrashPage> page{new CrashPage{}};
    std::vector<std::byte> room(sizeof(CrashPage));
    std::memcpy(room.data(), rest.data(), std::min(rest.size(), room.size()));
    const std::uint32_t complete = CrashPage::complete;
    std::memcpy(room.data(), &complete, sizeof complete);
    (void)read_crash_report(room, book);
    return;
  }
  const std::vector<std::byte> message{rest.begin(), rest.end()};
  try {
    if (which == 0) {
      (void)read_setup(message);
    } else {
      (void)read_pool_setup(message);
    }
  } catch (const DecodeError&) {  // what it is for
  } catch (const UsageError&) {}
}

KINDRED_FUZZ_SEEDS(message) {
  Setup setup;
  setup.modules.push_back({.path = "/bin/program", .build_id = "abcdef", .base = 0, .begin = 0, .end = 0});
  setup.options.env["A"] = "b";
  setup.options.env["C"] = std::nullopt;
  setup.options.cpu_affinity = {0, 1};
  setup.options.rlimits[7] = 99;
  setup.cwd = "/tmp";
  setup.pool_setup.resize(20);
  std::uint64_t size = 0;
  const auto memory = write_setup(setup, &size);
  std::vector<std::byte> text{std::byte{0}};
  text.insert(text.end(), memory->bytes().begin(),
              memory->bytes().begin() + static_cast<std::ptrdiff_t>(size));
  seed("setup", text);
  std::vector<std::byte> crash(1 + sizeof(CrashPage), std::byte{1});
  crash[0] = std::byte{2};
  seed("crash", crash);
  seed("pool_setup", std::vector<std::byte>(200, std::byte{1}));
}
