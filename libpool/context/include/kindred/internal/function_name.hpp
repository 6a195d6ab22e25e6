#pragma once

#include <string>

namespace kindred::internal {

/// The name of the function at the address, demangled, without parameters; empty where no symbol table names
/// it.
[[nodiscard]] std::string function_name(const void* address);
/// A place as file and offset, which addr2line takes: `libfilters.so+0x1a30`; empty where nothing is loaded
/// there.
[[nodiscard]] std::string place_name(const void* address);

}  // namespace kindred::internal
