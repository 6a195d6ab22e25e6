// libFuzzer's entry. KINDRED_FUZZ_TARGET in the environment says which target.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "fuzz.hpp"

namespace {
const kindred::fuzz::Target* chosen = nullptr;
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* const name = std::getenv("KINDRED_FUZZ_TARGET");
  for (const auto* target = kindred::fuzz::first_target; target != nullptr; target = target->next) {
    if (name != nullptr && std::string_view{target->name} == name) chosen = target;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr, "KINDRED_FUZZ_TARGET must name one of:");
    for (const auto* target = kindred::fuzz::first_target; target != nullptr; target = target->next)
      std::fprintf(stderr, " %s", target->name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  chosen->run({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
