#include "page_files.hpp"

#include <array>

// The files are put into the program as they are, by the assembler. CMake gives the paths.
#define KINDRED_EMBED(name, path)                                                    \
  asm(".section .rodata\n.balign 16\n" #name "_begin:\n.incbin \"" path "\"\n" #name \
      "_end:\n.byte 0\n.previous\n");                                                \
  extern "C" const char name##_begin[] __asm__(#name "_begin");                      \
  extern "C" const char name##_end[] __asm__(#name "_end")

KINDRED_EMBED(kindred_page_html, KINDRED_VIEW_PAGE "/index.html");
KINDRED_EMBED(kindred_page_css, KINDRED_VIEW_PAGE "/view.css");
KINDRED_EMBED(kindred_page_js, KINDRED_VIEW_PAGE "/view.js");
KINDRED_EMBED(kindred_page_charts_js, KINDRED_VIEW_PAGE "/charts.js");
KINDRED_EMBED(kindred_page_log_js, KINDRED_VIEW_PAGE "/log.js");
KINDRED_EMBED(kindred_page_nodes_js, KINDRED_VIEW_PAGE "/nodes.js");
KINDRED_EMBED(kindred_page_chart_library, KINDRED_VIEW_CHART);

namespace kindred::view {
namespace {

std::string_view between(const char* begin, const char* end) noexcept {
  return {begin, static_cast<std::size_t>(end - begin)};
}

constexpr std::string_view html = "text/html; charset=utf-8";
constexpr std::string_view css = "text/css; charset=utf-8";
constexpr std::string_view script = "text/javascript; charset=utf-8";

}  // namespace

const PageFile* find_page_file(std::string_view path) noexcept {
  static const std::array<PageFile, 7> files{{
      {"/", html, between(kindred_page_html_begin, kindred_page_html_end)},
      {"/view.css", css, between(kindred_page_css_begin, kindred_page_css_end)},
      {"/view.js", script, between(kindred_page_js_begin, kindred_page_js_end)},
      {"/charts.js", script, between(kindred_page_charts_js_begin, kindred_page_charts_js_end)},
      {"/log.js", script, between(kindred_page_log_js_begin, kindred_page_log_js_end)},
      {"/nodes.js", script, between(kindred_page_nodes_js_begin, kindred_page_nodes_js_end)},
      {"/chart-library.js", script,
       between(kindred_page_chart_library_begin, kindred_page_chart_library_end)},
  }};
  for (const auto& file : files) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

}  // namespace kindred::view
