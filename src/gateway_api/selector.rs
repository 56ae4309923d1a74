//! Label selectors, as namespaces are chosen by.

use std::collections::BTreeMap;

/// A label selector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// Labels with their values.
    pub labels: BTreeMap<String, String>,
    /// Key, operator, values.
    pub expressions: Vec<(String, String, Vec<String>)>,
}

impl Selector {
    /// Whether `labels` meet every condition. An operator that is not known meets nothing.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|(key, operator, values)| {
                let found = labels.get(key);
                match operator.as_str() {
                    "In" => found.is_some_and(|found| values.contains(found)),
                    "NotIn" => !found.is_some_and(|found| values.contains(found)),
                    "Exists" => found.is_some(),
                    "DoesNotExist" => found.is_none(),
                    _ => false,
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (key, operator, values, expected) in [
            ("a", "In", vec!["1", "2"], true),
            ("a", "In", vec!["2"], false),
            ("b", "In", vec!["1"], false),
            ("a", "NotIn", vec!["1"], false),
            ("b", "NotIn", vec!["1"], true),
            ("a", "Exists", vec![], true),
            ("b", "Exists", vec![], false),
            ("a", "DoesNotExist", vec![], false),
            ("b", "DoesNotExist", vec![], true),
            ("a", "Near", vec!["1"], false),
        ] {
            let values = values.into_iter().map(str::to_owned).collect();
            let selector = Selector {
                labels: BTreeMap::new(),
                expressions: vec![(key.to_owned(), operator.to_owned(), values)],
            };
            assert_eq!(selector.matches(&labels), expected, "{key} {operator}");
        }
        assert!(Selector { labels: labels.clone(), expressions: vec![] }.matches(&labels));
        assert!(!Selector { labels: labels.clone(), expressions: vec![] }.matches(&BTreeMap::new()));
    }
}
