//! What a system of 32 bit has to be able to do like one of 64. All other tests run there as well,
//! by `scripts/test-arm.sh`; these are about nothing else.

use std::fs::{self, File};
use std::time::{Duration, UNIX_EPOCH};

/// The standard library, the C library and the kernel have to agree: where one of them counts
/// seconds in 32 bits, a program cannot even ask what time it is from January 2038 on.
#[test]
fn the_system_knows_times_beyond_2038() {
    let path = std::env::temp_dir().join(format!("midge-{}-width", std::process::id()));
    let file = File::create_new(&path).unwrap();
    for seconds in [(1 << 31) - 1, 1 << 31, 1 << 32] {
        let set = file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds));
        set.unwrap_or_else(|error| panic!("{seconds}: {error}"));
        // Some file systems end there: they say the last time that they have.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let since = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((i32::MAX as u64..=seconds).contains(&since), "{since}");
    }
    fs::remove_file(path).unwrap();
}
