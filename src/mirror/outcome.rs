//! What became of a copy. Every request that a route forwards ends in exactly one of these for each
//! mirror of the route, so the counts add up to the requests.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What became of one copy, or why there was none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Outcome { $($(#[$doc])* $name,)* }

        impl Outcome {
            /// All outcomes, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The value of the `outcome` label.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

outcomes! {
    /// The whole request was written and the mirror answered, whatever its status; also when it
    /// answered early and stopped reading.
    Delivered = "delivered",
    /// No connection could be made.
    FailedConnect = "failed_connect",
    /// The mirror's name does not resolve.
    FailedDns = "failed_dns",
    /// The TLS handshake failed.
    FailedTls = "failed_tls",
    /// The mirror took longer than its timeout.
    FailedTimeout = "failed_timeout",
    /// The mirror closed or reset the connection before it answered.
    FailedReset = "failed_reset",
    /// The mirror's answer is not HTTP.
    FailedProtocol = "failed_protocol",
    /// Broken off: the copy fell further behind the primary than its `lag`.
    CutLag = "cut_lag",
    /// Broken off: the copies of this worker pinned more memory than all may.
    CutBytes = "cut_bytes",
    /// Broken off: the request's body never ended, since the client went away.
    CutClientGone = "cut_client_gone",
    /// Broken off: the process is stopping.
    CutDraining = "cut_draining",
    /// Not drawn.
    SkippedSampledOut = "skipped_sampled_out",
    /// The mirror's own conditions do not hold.
    SkippedCondition = "skipped_condition",
    /// The method is not among the mirror's `methods`.
    SkippedMethod = "skipped_method",
    /// As many copies as allowed are in flight.
    SkippedInFlight = "skipped_in_flight",
    /// Over the mirror's rate.
    SkippedRate = "skipped_rate",
    /// The copies of this worker pin as much memory as all may.
    SkippedBytes = "skipped_bytes",
    /// The body is larger than `max_body`.
    SkippedOversize = "skipped_oversize",
    /// The mirror has no endpoints.
    SkippedNoEndpoints = "skipped_no_endpoints",
    /// The breaker is open.
    SkippedBreaker = "skipped_breaker",
    /// Somebody paused the mirror.
    SkippedPaused = "skipped_paused",
    /// The mirror was stopped automatically.
    SkippedStopped = "skipped_stopped",
    /// The request is itself a copy.
    SkippedLoop = "skipped_loop",
    /// Upgrades and CONNECT are never copied.
    SkippedUpgrade = "skipped_upgrade",
    /// The process sheds load, copies first.
    SkippedOverload = "skipped_overload",
    /// The process is stopping.
    SkippedDraining = "skipped_draining",
}

impl Outcome {
    /// Position in per-outcome arrays.
    pub fn index(self) -> usize {
        self as usize
    }

    /// How many outcomes there are.
    pub const COUNT: usize = Self::ALL.len();
}
