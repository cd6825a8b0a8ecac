# Compiler, linker and sanitizer settings that every target shares.
add_library(bygone_settings INTERFACE)
target_compile_options(bygone_settings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wconversion -Wshadow -Werror>)
target_include_directories(bygone_settings INTERFACE ${CMAKE_SOURCE_DIR}/src)

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees writes past a std::vector's end that are not there (GCC bugs 105329, 107852).
  target_compile_options(bygone_settings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-stringop-overread>)
endif()

if(BYGONE_SANITIZE)
  target_compile_options(bygone_settings INTERFACE -fsanitize=${BYGONE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(bygone_settings INTERFACE -fsanitize=${BYGONE_SANITIZE})
  if(BYGONE_SANITIZE MATCHES "undefined")
    target_compile_options(bygone_settings INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()

if(BYGONE_FUZZ)
  # The rooms tell the fuzzer which ways an input took; without that it searches blindly.
  target_compile_options(bygone_settings INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(bygone_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(BYGONE_CCACHE ccache)
if(BYGONE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${BYGONE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${BYGONE_CCACHE})
endif()
find_program(BYGONE_MOLD mold)
if(BYGONE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()
