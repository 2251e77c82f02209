//! Compares event streams that the broker forwards with other parsers' results.

use std::{convert::Infallible, pin::pin};

use bytes::Bytes;
use eventsource_stream::Eventsource as _;
use sse_stream::SseStream;
use tokio_stream::{Stream, StreamExt as _};
use tower_token_broker::readers;

use crate::{bodies, print_line, random::Random};

const LINES: [&[u8]; 26] = [
    b"data: {\"jsonrpc\":\"2.0\"}",
    b"data: a",
    b"data:a",
    b"data:  a",
    b"data:",
    b"data: ",
    b"data",
    b"data: \xe2\x80\xa8x\xc2\x85\x0b\x0c",
    b"data: \xf0\x9f\x98\x80",
    b"data:\xef\xbb\xbfa",
    b"data: a:b: c",
    b"event: message",
    b"id: 1",
    b"id: \x00",
    b"retry: 10",
    b": comment",
    b":",
    b"DATA: a",
    b"Data: a",
    b"data : a",
    b" data: a",
    b"datax: a",
    b"\xef\xbb\xbfdata: a",
    b"\xef\xbb\xbf",
    b"field: x",
    b"id",
];
const ENDS: [&str; 8] = ["\n", "\n", "\n", "\r\n", "\r\n", "\r", "\n\n", "\r\n\r\n"];

fn stream(random: &mut Random) -> Vec<u8> {
    // In one of eight streams the lines are arbitrary; in the others they resemble a server's.
    let lines = if random.one_in(8) { &LINES[..] } else { &LINES[..17] };
    let mut stream = if random.one_in(8) { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
    for _ in 0..random.below(12) {
        stream.extend(random.pick(lines));
        stream.extend(random.pick(&ENDS).bytes());
        if random.one_in(40) {
            stream.push(random.pick(&[0xff, 0x80, 0xc3]));
        }
    }
    stream.extend(if random.one_in(4) { &b"data: unfinished"[..] } else { b"\n\n" });
    stream
}

#[tokio::test]
async fn k230_forwarded_streams_are_unambiguous() {
    let mut random = Random::seeded(0x230);
    let (mut with_data, mut whole, mut ended) = (0, 0, 0);
    for _ in 0..bodies() {
        let stream = stream(&mut random);
        let cut = random.below(40) + 1;
        let events = readers::events(stream.chunks(cut), usize::MAX).unwrap();
        let judged: Vec<Vec<u8>> = events
            .iter()
            .filter_map(|event| readers::event_data(event))
            .filter(|data| !data.is_empty())
            .collect();
        let (sent, cut) = (events.concat(), random.below(40) + 1);
        let pieces = || sent.chunks(cut).map(Bytes::copy_from_slice).map(Ok::<_, Infallible>);
        let theirs = [
            data(
                SseStream::from_bytes_stream(tokio_stream::iter(pieces()))
                    .map(|event| event.map(|event| event.data)),
            )
            .await,
            data(
                tokio_stream::iter(pieces())
                    .eventsource()
                    .map(|event| event.map(|event| Some(event.data))),
            )
            .await,
        ];
        for (name, (theirs, is_whole)) in
            ["sse-stream", "eventsource-stream"].into_iter().zip(theirs)
        {
            // A parser that stops must not have read anything different before.
            let expected =
                if is_whole { &judged[..] } else { &judged[..theirs.len().min(judged.len())] };
            assert_eq!(theirs, expected, "{name}: {}", stream.escape_ascii());
            *(if is_whole { &mut whole } else { &mut ended }) += 1;
        }
        with_data += usize::from(!judged.is_empty());
    }
    print_line(&format!(
        "events: {} streams, {with_data} with data, 0 differences; read to \
         the end {whole} times, given up {ended}",
        bodies()
    ));
    assert!(with_data * 2 > bodies() && whole > ended);
}

/// Returns the data of non-empty events up to the first error, and whether there was no error.
async fn data<E>(events: impl Stream<Item = Result<Option<String>, E>>) -> (Vec<Vec<u8>>, bool) {
    let (mut events, mut data) = (pin!(events), Vec::new());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => data.extend(event.filter(|data| !data.is_empty()).map(String::into_bytes)),
            Err(_) => return (data, false),
        }
    }
    (data, true)
}
