//! The closed list of what a record can report, and its members.

use std::net::SocketAddr;

use http::StatusCode;

use super::{
    GrantType, Intent, Member, Note, OpenWork, Operation, Outcome, PolicyDigest, RecordKind,
    SCHEMA_VERSION, TokenOutcome, encode::Line,
};
use crate::{
    audit::segment::WriterName,
    clock::Timestamp,
    principal::{Initiator, Principal, Resource},
    refusal::Reason,
    request_id::RequestId,
};

/// The content of a record.
#[derive(Debug)]
pub(in crate::audit) enum Event<'a> {
    Start {
        chain: [u8; 16],
        writer: Option<&'a str>,
    },
    /// A process continues a chain.
    Open {
        dropped_bytes: u64,
        segment: Option<SegmentOf<'a>>,
    },
    Close,
    /// The end of a segment. The chain continues in the next one.
    SegmentEnd,
    /// The beginning of the next segment, by the same process.
    SegmentStart {
        segment: SegmentOf<'a>,
        carried: u64,
    },
    /// A request or job that is open at the beginning of a segment.
    Carried(&'a OpenWork),
    /// A token request that is open at the beginning of a segment.
    CarriedTokenRequest {
        of: &'a OpenWork,
        number: u64,
    },
    Intent {
        work: Work,
        /// Whether the request or job has ended, so that its result is further up.
        is_late: bool,
        principal: Option<&'a Principal>,
        intent: &'a Intent<'a>,
    },
    TokenRequest {
        work: Work,
        number: u64,
        grant_type: GrantType,
        principal: Option<&'a Principal>,
        intent: &'a Intent<'a>,
    },
    TokenResult {
        work: Work,
        number: u64,
        outcome: TokenOutcome,
    },
    Result(&'a RequestResult<'a>),
    JobResult {
        work: Work,
        started: Timestamp,
        outcome: Outcome,
        intents: u32,
        uses: u32,
    },
    /// Requests without a record of their own, which ended alike.
    Counted {
        outcome: Outcome,
        reason: Option<Reason>,
        count: u64,
        since: Timestamp,
    },
    /// A request or job of an earlier process, with unknown outcome.
    Lost(&'a OpenWork),
    /// A token request of an earlier process, with unknown outcome.
    LostTokenRequest {
        of: &'a OpenWork,
        number: u64,
    },
    Note {
        note: &'a Note<'a>,
        initiator: &'a Initiator,
    },
}

/// The chain that a segment belongs to, and its writer.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct SegmentOf<'a> {
    writer: &'a str,
    chain: [u8; 16],
}

/// The request or background job that a record belongs to.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) enum Work {
    Request(RequestId),
    Job { id: RequestId, name: &'static str },
}

/// The terminal record of one request.
#[derive(Debug)]
pub(in crate::audit) struct RequestResult<'a> {
    pub(in crate::audit) request: RequestId,
    pub(in crate::audit) started: Timestamp,
    pub(in crate::audit) resource: Option<&'a Resource>,
    pub(in crate::audit) peer: Option<SocketAddr>,
    pub(in crate::audit) outer_request: Option<&'a str>,
    pub(in crate::audit) principal: Option<&'a Principal>,
    pub(in crate::audit) operation: Option<&'a Operation>,
    pub(in crate::audit) rule: Option<&'a str>,
    pub(in crate::audit) policy: Option<PolicyDigest>,
    pub(in crate::audit) outcome: Outcome,
    pub(in crate::audit) reason: Option<Reason>,
    pub(in crate::audit) status: Option<StatusCode>,
    pub(in crate::audit) intents: u32,
    pub(in crate::audit) uses: u32,
    pub(in crate::audit) echo_masked: u64,
    pub(in crate::audit) response_bytes: u64,
    #[cfg(feature = "grpc")]
    pub(in crate::audit) grpc: Option<crate::audit::grpc::GrpcResult>,
}

impl Event<'_> {
    pub(in crate::audit) const fn kind(&self) -> RecordKind {
        match self {
            Self::Start { .. } => RecordKind::Start,
            Self::Open { .. } | Self::SegmentStart { .. } => RecordKind::Open,
            Self::Close | Self::SegmentEnd => RecordKind::Close,
            Self::Carried(_) | Self::CarriedTokenRequest { .. } => RecordKind::Carried,
            Self::Intent { .. } => RecordKind::Intent,
            Self::TokenRequest { .. } => RecordKind::TokenRequest,
            Self::TokenResult { .. } | Self::LostTokenRequest { .. } => RecordKind::TokenResult,
            Self::Result(_) | Self::Counted { .. } | Self::Lost(OpenWork::Request(_)) => {
                RecordKind::Result
            }
            Self::JobResult { .. } | Self::Lost(OpenWork::Job(_)) => RecordKind::JobResult,
            Self::Note { note, .. } => note.kind(),
        }
    }

    /// Appends the members from `time` up to, and without, `prev`.
    pub(in crate::audit) fn write(&self, at: Timestamp, members: &mut Vec<u8>) {
        let line = &mut Line(members);
        line.time(Member::Time, at);
        line.word(Member::Kind, self.kind().as_str());
        match self {
            Self::Start { chain, writer } => {
                line.number(Member::Schema, u64::from(SCHEMA_VERSION));
                line.hex(Member::Chain, chain);
                if let Some(writer) = writer {
                    line.text(Member::Writer, writer);
                }
            }
            Self::Open { dropped_bytes, segment } => {
                line.number(Member::Schema, u64::from(SCHEMA_VERSION));
                if let Some(segment) = segment {
                    segment.write(line);
                }
                line.number(Member::DroppedBytes, *dropped_bytes);
            }
            Self::SegmentStart { segment, carried } => {
                line.number(Member::Schema, u64::from(SCHEMA_VERSION));
                segment.write(line);
                line.number(Member::Carried, *carried);
                line.number(Member::DroppedBytes, 0);
            }
            Self::Close => {}
            Self::SegmentEnd => line.flag(Member::Continues),
            Self::Carried(of) => write_work(of, line),
            Self::CarriedTokenRequest { of, number } => {
                write_work(of, line);
                line.number(Member::TokenRequest, *number);
            }
            Self::Intent { work, is_late, principal, intent } => {
                work.write(line);
                if *is_late {
                    line.flag(Member::Late);
                }
                line.principal(*principal);
                intent.write(line);
            }
            Self::TokenRequest { work, number, grant_type, principal, intent } => {
                work.write(line);
                line.number(Member::TokenRequest, *number);
                line.word(Member::GrantType, grant_type.as_str());
                line.principal(*principal);
                intent.write(line);
            }
            Self::TokenResult { work, number, outcome } => {
                work.write(line);
                line.number(Member::TokenRequest, *number);
                line.word(Member::Outcome, outcome.as_str());
            }
            Self::LostTokenRequest { of, number } => {
                write_work(of, line);
                line.number(Member::TokenRequest, *number);
                line.word(Member::Outcome, TokenOutcome::Unknown.as_str());
            }
            Self::Result(result) => result.write(line),
            Self::JobResult { work, started, outcome, intents, uses } => {
                work.write(line);
                line.word(Member::Outcome, outcome.as_str());
                line.time(Member::Started, *started);
                line.number(Member::Intents, u64::from(*intents));
                line.number(Member::Uses, u64::from(*uses));
            }
            Self::Counted { outcome, reason, count, since } => {
                line.number(Member::Count, *count);
                line.word(Member::Outcome, outcome.as_str());
                reason.iter().for_each(|reason| line.word(Member::Reason, reason.code()));
                line.time(Member::Started, *since);
            }
            Self::Lost(of) => {
                write_work(of, line);
                if matches!(of, OpenWork::Request(_)) {
                    line.number(Member::Count, 1);
                }
                line.word(Member::Outcome, Outcome::Unknown.as_str());
            }
            Self::Note { note, initiator } => note.write(initiator, line),
        }
    }
}

impl<'a> SegmentOf<'a> {
    pub(in crate::audit) fn new(writer: &'a WriterName, chain: &[u8; 16]) -> Self {
        Self { writer: writer.as_str(), chain: *chain }
    }

    fn write(&self, line: &mut Line<'_>) {
        line.hex(Member::Chain, &self.chain);
        line.text(Member::Writer, self.writer);
    }
}

fn write_work(of: &OpenWork, line: &mut Line<'_>) {
    match of {
        OpenWork::Request(id) => line.text(Member::Request, id),
        OpenWork::Job(id) => line.text(Member::Job, id),
    }
}

impl Work {
    pub(in crate::audit) const fn id(&self) -> RequestId {
        match self {
            Self::Request(id) | Self::Job { id, .. } => *id,
        }
    }

    fn write(&self, line: &mut Line<'_>) {
        match self {
            Self::Request(id) => line.hex(Member::Request, id.as_bits()),
            Self::Job { id, name } => {
                line.hex(Member::Job, id.as_bits());
                line.word(Member::JobName, name);
            }
        }
    }
}

impl RequestResult<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.hex(Member::Request, self.request.as_bits());
        line.number(Member::Count, 1);
        line.word(Member::Outcome, self.outcome.as_str());
        if let Some(reason) = self.reason {
            line.word(Member::Reason, reason.code());
        }
        if let Some(status) = self.status {
            line.number(Member::Status, u64::from(status.as_u16()));
        }
        line.time(Member::Started, self.started);
        if let Some(resource) = self.resource {
            line.setting(Member::Resource, resource.as_str());
        }
        if let Some(peer) = self.peer {
            line.text(Member::Peer, &peer.to_string());
        }
        if let Some(outer_request) = self.outer_request {
            line.text(Member::OuterRequest, outer_request);
        }
        line.principal(self.principal);
        if let Some(operation) = self.operation {
            operation.write(line);
        }
        if let Some(rule) = self.rule {
            line.text(Member::Rule, rule);
        }
        if let Some(policy) = &self.policy {
            line.hex(Member::PolicyVersion, policy.as_bytes());
        }
        line.number(Member::Intents, u64::from(self.intents));
        line.number(Member::Uses, u64::from(self.uses));
        line.number(Member::EchoMasked, self.echo_masked);
        line.number(Member::ResponseBytes, self.response_bytes);
        #[cfg(feature = "grpc")]
        if let Some(grpc) = &self.grpc {
            if let Some(status) = grpc.status {
                line.number(Member::GrpcStatus, status);
            }
            line.number(Member::MessagesIn, grpc.messages_in);
            line.number(Member::MessagesOut, grpc.messages_out);
        }
    }
}
