//! The fake server's part for peers and groups.

use super::Fake;
use conclave_bridge::fabric::{Later, PeerInfo, Peers};
use conclave_bridge::labels::{Change, Labels};
use conclave_bridge::trust::Sender;
use conclave_proto::id::{ChannelId, UserId};
use conclave_proto::name::Name;
use conclave_proto::profile::Wake;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::BTreeSet;

impl Peers for Fake {
    fn roster(&self, _: ChannelId) -> Later<Vec<PeerInfo>> {
        self.reply(|world| {
            let all = world.peers.iter();
            let info = |(path, profile): &(String, _)| PeerInfo {
                path: path.parse().unwrap(),
                online: true,
                since: UnixMs(0),
                agent: "say hello now".into(),
                sender: Sender {
                    user: UserId::new([9; 32]),
                    own: false,
                    key_changed: false,
                    member_ms: None,
                    vouched: false,
                },
                profile: Some(Clone::clone(profile)),
                proven: None,
            };
            all.map(info).collect()
        })
    }

    fn members(&self, _: ChannelId) -> Later<BTreeSet<Name>> {
        self.reply(|world| {
            world
                .members
                .iter()
                .map(|name| name.parse().unwrap())
                .collect()
        })
    }

    fn host_is(&self, _: &str) {}

    fn change_labels(&self, change: Change) -> Result<Labels, Reject> {
        let mut end = Ok(());
        self.0
            .send_modify(|world| end = world.view.labels.apply(change));
        end.map_err(|e| Reject::new(Code::LimitReached, e.to_string()))?;
        Ok(self.0.borrow().view.labels.clone())
    }

    fn woken(&self, wake: Wake) {
        self.0.send_modify(|world| world.wakes.push(wake));
    }
}
