//! hickory-server with a handler that makes the address out of the name: what the library itself costs.

use std::net::SocketAddr;

use async_trait::async_trait;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata};
use hickory_server::proto::rr::{RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::{Launch, Place, myself};
use crate::zone::{Zone, vip};

pub fn prepare(_: &Zone, _: &Place) -> Result<Launch, String> {
    myself("hickory")
}

pub fn serve(at: SocketAddr) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut server = Server::new(Handler);
        server.register_socket(tokio::net::UdpSocket::bind(at).await.unwrap());
        server.block_until_done().await.unwrap();
    });
    std::process::exit(0)
}

struct Handler;

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let question = request.queries.queries().first();
        let answer = question.map(|question| {
            let name = question.original().name().clone();
            let digits =
                name.iter().next().and_then(|label| std::str::from_utf8(&label[1..]).ok()?.parse().ok());
            Record::from_rdata(name, 5, RData::A(vip(digits.unwrap_or(0), 0).into()))
        });
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = response.send_response(builder.build(metadata, answer.iter(), [], [], [])).await;
        sent.unwrap_or_else(|_| Header { metadata, counts: HeaderCounts::default() }.into())
    }
}
