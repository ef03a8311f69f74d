//! Many filters, as a house full of devices would have them, and the topics that they are for.

/// Filter number `index`, and a topic that matches it and no other; all equally long up to a
/// hundred thousand of them, so that many filters cost what few do.
pub fn filter_and_topic(index: usize) -> (String, String) {
    let site = index % 97;
    match index % 10 {
        0..7 => {
            let topic = format!("site/{site:02}/device/{index:05}/temperature");
            (topic.clone(), topic)
        }
        7..9 => (
            format!("room/{site:02}/+/{index:05}/humidity"),
            format!("room/{site:02}/west/{index:05}/humidity"),
        ),
        _ => (
            format!("plant/{site:02}/{index:05}/#"),
            format!("plant/{site:02}/{index:05}/pump/pressure"),
        ),
    }
}
