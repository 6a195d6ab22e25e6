#pragma once

#include <string>
#include <vector>

#include <boost/json.hpp>

#include "stacks.hpp"

namespace kindred::view {

/// [{"tid":1,"name":"..","frames":[{"address":"0x..","function":"..","module":"..","place":"file.cpp:12"}]}]
[[nodiscard]] boost::json::array stacks_as_json(const std::vector<ThreadStack>& stacks);
/// A line a thread, and below it a line a frame.
[[nodiscard]] std::vector<std::string> stacks_as_lines(const std::vector<ThreadStack>& stacks);

}  // namespace kindred::view
