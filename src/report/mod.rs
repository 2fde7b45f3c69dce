//! Text for people and JSON for programs.
#![forbid(unsafe_code)]

mod bars;
mod chain;
mod changes;
mod detail;
mod doctor;
mod drill;
mod explain;
mod fleet;
mod import;
mod io_share;
mod json;
mod kill_order;
mod kubernetes;
mod memory;
mod missed;
mod openmetrics;
mod overview;
mod policy;
mod process;
mod screen;
mod share;
mod status;
mod status_json;
mod table;

pub use bars::Display;
pub use chain::{UnitView, unit_json, unit_text};
pub use changes::{changes, changes_text, plan_json, plan_text, plan_value, report_json, report_text};
pub use detail::{Detail, detail};
pub use doctor::{Examined, doctor_json, doctor_text, finding_text, fixable_text, fixed_text, left_text};
pub use drill::{DrillView, drill_json, drill_text};
pub use explain::{login_json, login_text};
pub use fleet::{Fleet, fleet_json, fleet_text};
pub use import::import_text;
pub use io_share::{IoShareView, io_share_json, io_share_text};
pub use kill_order::{Order, oom_json, oom_text};
pub use kubernetes::{KUBERNETES_HEADER, exported_text, kubernetes_files, losses_text};
pub use memory::{memory_json, memory_of_text, memory_text};
pub use missed::{missed, missed_shares};
pub use openmetrics::{Diagnosis, openmetrics};
pub use overview::{installed, overview};
pub use policy::policy;
pub use process::{ProcessView, Whose, process_json, process_text};
pub use screen::screen;
pub use share::{ShareView, share_json, share_text};
pub use status_json::{Stamp, status_json};
