//! What goes wrong: cuts, holes, readers that stop, crashes of either side.

use super::{Event, World};
use crate::net::SocketId;

impl World {
    /// A socket is cut: what was under way is lost, and each end learns of it in its own time.
    pub(super) fn cut(&mut self, id: SocketId) {
        let Some(socket) = self.net.sockets.remove(&id) else {
            return;
        };
        self.soon(Event::ServerLost(socket.conn));
        if let Some(session) = self.sessions.get(socket.client)
            && session.socket == Some(id)
        {
            let dial = session.dials;
            self.soon(Event::ClientLost(socket.client, dial));
        }
    }

    /// Something goes wrong, and something more later.
    pub(super) fn fault(&mut self) {
        if !self.net.hostile {
            return;
        }
        let pause = self.rng.up_to(2_500);
        self.at(self.now + pause, Event::Fault);
        let any = self.net.any(&mut self.rng);
        match self.rng.up_to(19) {
            0 if self.server.is_up() => self.server_crashes(),
            1 | 2 => self.client_crashes(),
            3 => {
                if let Some(socket) = any.and_then(|id| self.net.sockets.get_mut(&id)) {
                    socket.hole = true;
                }
            }
            4..8 => {
                let until = self.now + self.rng.up_to(40_000);
                if let Some(socket) = any.and_then(|id| self.net.sockets.get_mut(&id)) {
                    socket.paused_until = until;
                }
            }
            8..14 => any.into_iter().for_each(|id| self.cut(id)),
            _ => {}
        }
    }

    fn server_crashes(&mut self) {
        self.stats.crashes += 1;
        self.server.crash();
        let all: Vec<SocketId> = self.net.sockets.keys().copied().collect();
        for id in all {
            self.cut(id);
        }
        let back = self.now + self.rng.up_to(8_000);
        self.at(back, Event::ServerStarts);
    }

    fn client_crashes(&mut self) {
        let last = u64::try_from(self.sessions.len()).unwrap_or(1) - 1;
        let n = usize::try_from(self.rng.up_to(last)).unwrap_or(0);
        let Some(session) = self.sessions.get_mut(n).filter(|s| s.is_running()) else {
            return;
        };
        self.stats.crashes += 1;
        session.crash();
        session.dials += 1;
        if let Some(id) = session.socket.take() {
            self.leave(id);
        }
        let back = self.now + self.rng.up_to(8_000);
        self.at(back, Event::ClientStarts(n));
    }
}
