#pragma once

namespace kindred::test {

/// How many programs want each CPU now, from 1 to 10: where others have the machine, too, everything takes
/// that much longer.
[[nodiscard]] double crowd();

}  // namespace kindred::test
