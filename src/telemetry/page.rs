//! How families and samples are written in either format; knows no metric by name.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::exposition::Format;
use super::histogram::Distribution;

pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// Where families are written.
pub(super) struct Page<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    format: Format,
}

/// Where samples of one family are written.
pub(super) struct Family<'a> {
    encoder: MetricEncoder<'a>,
    format: Format,
}

impl<'a, 'b> Page<'a, 'b> {
    pub(super) fn new(encoder: &'a mut DescriptorEncoder<'b>, format: Format) -> Self {
        Self { encoder, format }
    }

    /// A family of counters; `name` without `_total`, which the samples' names have.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        // OpenMetrics names the family without the suffix; Prometheus text with it, and would take
        // the samples to be of no type otherwise.
        match self.format {
            Format::OpenMetrics => self.family(name, help, MetricType::Counter, samples),
            Format::Prometheus => self.family(&format!("{name}_total"), help, MetricType::Counter, samples),
        }
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Gauge, samples)
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        samples: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        self.family(name, help, MetricType::Histogram, samples)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl FnOnce(&mut Family<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let encoder = self.encoder.encode_descriptor(name, help, None, kind)?;
        samples(&mut Family { encoder, format: self.format })
    }
}

impl Family<'_> {
    pub(super) fn count(&mut self, labels: Labels<'_>, count: u64) -> fmt::Result {
        let format = self.format;
        self.labelled(labels, |encoder| match format {
            Format::OpenMetrics => encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None),
            // The family's name has the suffix already: a gauge's sample is one without.
            Format::Prometheus => encoder.encode_gauge(&count),
        })
    }

    pub(super) fn seconds(&mut self, seconds: f64) -> fmt::Result {
        match self.format {
            Format::OpenMetrics => self.encoder.encode_counter::<NoLabelSet, f64, f64>(&seconds, None),
            Format::Prometheus => self.encoder.encode_gauge(&seconds),
        }
    }

    pub(super) fn value(&mut self, labels: Labels<'_>, value: f64) -> fmt::Result {
        // Whole numbers as such: an encoded `1e6` surprises people who read the page.
        let whole = value as i64;
        self.labelled(labels, |encoder| {
            if whole as f64 == value { encoder.encode_gauge(&whole) } else { encoder.encode_gauge(&value) }
        })
    }

    pub(super) fn distribution(&mut self, labels: Labels<'_>, distribution: &Distribution) -> fmt::Result {
        let Distribution { buckets, count, sum } = distribution;
        self.labelled(labels, |encoder| encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None))
    }

    fn labelled(
        &mut self,
        labels: Labels<'_>,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        if labels.is_empty() {
            return write(&mut self.encoder);
        }
        write(&mut self.encoder.encode_family(&labels)?)
    }
}
