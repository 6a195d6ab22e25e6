# An overlay port: vcpkg install kindred --overlay-ports=libpool/cmake/vcpkg
# It builds the source tree that it stands in.
get_filename_component(SOURCE_PATH ${CMAKE_CURRENT_LIST_DIR}/../../.. ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS feature_options FEATURES tools KINDRED_TOOLS)
set(programs kindred-tail)
set(view_options -DKINDRED_VIEW=OFF)
if("view" IN_LIST FEATURES)
  list(APPEND programs kindred-view kindred-top)
  vcpkg_find_acquire_program(PKGCONFIG)
  # The charts of the page, built into kindred-view.
  vcpkg_download_distfile(chart_archive
    URLS https://registry.npmjs.org/chart.js/-/chart.js-4.4.9.tgz
    FILENAME kindred-chart.js-4.4.9.tgz
    SHA512 13267dc162a0a405347cb278dd8004205f2caf91765b72ea6d2e34649c872277abda5635e2e7eabf654ca7af4c022676ae9c31114c448481ffd14df1c91ca7c6)
  vcpkg_extract_source_archive(chart_folder ARCHIVE ${chart_archive})
  set(view_options -DKINDRED_VIEW=ON -DKINDRED_CHART_JS=${chart_folder}/dist/chart.umd.js -DPKG_CONFIG_EXECUTABLE=${PKGCONFIG})
endif()
vcpkg_cmake_configure(
  SOURCE_PATH ${SOURCE_PATH}
  OPTIONS ${feature_options} ${view_options} -DKINDRED_TESTS=OFF -DKINDRED_EXAMPLES=OFF -DKINDRED_INSTALL=ON)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/kindred)
vcpkg_fixup_pkgconfig()
if("tools" IN_LIST FEATURES)
  vcpkg_copy_tools(TOOL_NAMES ${programs} AUTO_CLEAN)
endif()
file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR}/debug/include ${CURRENT_PACKAGES_DIR}/debug/share)
vcpkg_install_copyright(FILE_LIST ${SOURCE_PATH}/LICENSE)
