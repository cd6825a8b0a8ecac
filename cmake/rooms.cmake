# A room is one directory under src/, one library `bygone_<room>` (slashes become underscores) and, when it holds
# *_test.cpp files, one test program `<room>_test`. Everything else that ends in .cpp goes into the library.
#
#   bygone_room(<path under src> [DEPENDS <rooms>…] [LIBRARIES <targets>…] [TEST_LIBRARIES <targets>…])
#
# Only the files directly in the directory are taken with FLAT; otherwise subdirectories belong to the room too.
include(GoogleTest)

function(bygone_room path)
  cmake_parse_arguments(ROOM "FLAT" "" "DEPENDS;LIBRARIES;TEST_LIBRARIES" ${ARGN})
  string(REPLACE "/" "_" name ${path})
  set(directory ${CMAKE_SOURCE_DIR}/src/${path})
  if(ROOM_FLAT)
    file(GLOB sources CONFIGURE_DEPENDS ${directory}/*.cpp ${directory}/*.S)
  else()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${directory}/*.cpp ${directory}/*.S)
  endif()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cpp$")

  set(depends "")
  foreach(room IN LISTS ROOM_DEPENDS)
    string(REPLACE "/" "_" room ${room})
    list(APPEND depends bygone_${room})
  endforeach()

  if(sources)
    add_library(bygone_${name} STATIC ${sources})
    target_link_libraries(bygone_${name} PUBLIC bygone_settings ${depends} ${ROOM_LIBRARIES} fmt::fmt)
  else()
    add_library(bygone_${name} INTERFACE)
    target_link_libraries(bygone_${name} INTERFACE bygone_settings ${depends} ${ROOM_LIBRARIES} fmt::fmt)
  endif()

  if(tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE bygone_${name} ${ROOM_TEST_LIBRARIES} GTest::gmock GTest::gtest_main)
    set_target_properties(${name}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    gtest_discover_tests(${name}_test TEST_PREFIX ${path}/ DISCOVERY_MODE PRE_TEST
                         PROPERTIES TIMEOUT 300 LABELS unit)
  endif()
endfunction()
