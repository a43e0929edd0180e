//! `flynn cluster`, git remotes and git's question for the key.

use crate::answers::demo;
use crate::invocation::Person;

fn git(person: &Person, args: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(args)
        .current_dir(person.home.path())
        .env("HOME", person.home.path())
        .output()
        .expect("git is installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn g47_g48_clusters_come_and_go() {
    let person = Person::new();
    let added = "2| Cluster \"foo\" added and set as default.";
    Person::check(&person.flynn("cluster add --no-git -p AAAA foo foo.test k").await, 0, &[added]);
    let taken = "2| Cluster \"foo\" already exists in ~/.flynnrc";
    Person::check(&person.flynn("cluster add --no-git foo x.test k").await, 1, &[taken]);
    let added = "2| Cluster \"bar\" added and set as default.";
    Person::check(
        &person.flynn("cluster add --no-git -d bar https://controller.bar.test k2").await,
        0,
        &[added],
    );
    let conflict = "2| The cluster name and/or URLs conflict with multiple existing clusters.";
    Person::check(&person.flynn("cluster add -f --no-git foo bar.test k").await, 1, &[conflict]);
    let rows = [
        "1| NAME  CONTROLLER URL               GIT URL  IMAGE URL",
        "1| foo   https://controller.foo.test  (none)   https://images.foo.test",
        "1| bar   https://controller.bar.test  (none)   https://images.bar.test  (default)",
    ];
    Person::check(&person.flynn("cluster").await, 0, &rows);
    assert_eq!(
        person.read_rc(),
        "default = \"bar\"\n\n[[cluster]]\n  Name = \"foo\"\n  Key = \"k\"\n  TLSPin = \"AAAA\"\n  \
         ControllerURL = \"https://controller.foo.test\"\n  GitURL = \"\"\n  ImageURL = \"https://images.foo.test\"\n\n\
         [[cluster]]\n  Name = \"bar\"\n  Key = \"k2\"\n  ControllerURL = \"https://controller.bar.test\"\n  \
         GitURL = \"\"\n  ImageURL = \"https://images.bar.test\"\n\n"
    );
    let missing = "2| Cluster \"zz\" does not exist and cannot be set as default.";
    Person::check(&person.flynn("cluster default zz").await, 1, &[missing]);
    let rows = ["1| NAME  URL", "1| bar   https://controller.bar.test  (default)"];
    Person::check(&person.flynn("cluster default").await, 0, &rows);
    let removed = "2| Cluster \"bar\" removed and \"foo\" is now the default cluster.";
    Person::check(&person.flynn("cluster remove bar").await, 0, &[removed]);
    Person::check(&person.flynn("cluster remove bar").await, 0, &[]);
    Person::check(&person.flynn("cluster remove foo").await, 0, &["2| Cluster \"foo\" removed."]);
    assert_eq!(person.read_rc(), "");
}

#[tokio::test]
async fn g50_git_learns_the_key_of_its_cluster_only() {
    let person = Person::with(&demo().await);
    let ask = |host: &str| format!("protocol=https\nhost={host}\npath=x\n\n");
    let answer =
        ["1| protocol=https", "1| username=user", "1| host=git.gold.test", "1| password=kk"];
    Person::check(
        &person.flynn_answering("git-credentials get", &ask("git.gold.test")).await,
        0,
        &answer,
    );
    Person::check(
        &person.flynn_answering("git-credentials get", &ask("elsewhere.test")).await,
        0,
        &[],
    );
    Person::check(
        &person.flynn_answering("git-credentials store", &ask("git.gold.test")).await,
        0,
        &[],
    );
}

#[tokio::test]
async fn an_app_made_in_a_repository_gets_its_remote() {
    let controller = demo().await;
    let person = Person::with(&controller);
    controller.answer("POST /apps", r#"{"name":"shop","meta":{}}"#);
    let outside = "2| Must be executed within a git repository.";
    Person::check(&person.flynn("-a shop remote add").await, 0, &[outside]);
    git(&person, &["init", "-q"]);
    Person::check(&person.flynn("create -y shop").await, 0, &["2| Created shop"]);
    assert!(
        git(&person, &["remote", "-v"]).contains("flynn\thttps://git.gold.test/shop.git (push)")
    );
    let asked = person.flynn_answering("create shop", "no\n").await;
    assert!(
        asked.out.starts_with("There is already a git remote called flynn\nAre you sure"),
        "{asked:?}"
    );
    let made = "2| Created remote \"\" with url https://git.gold.test/shop.git.";
    Person::check(&person.flynn("-a shop remote add \"\"").await, 0, &[&made.replace("\\", "")]);
    controller.events(
        "GET /events?app_id=shop&object_types=app_deletion",
        &[r#"{"id":3,"object_type":"app_deletion","data":{"error":"","app_deletion":{"app":""}}}"#],
    );
    controller.answer("DELETE /apps/shop", "");
    assert_eq!(person.flynn("-a shop delete -y").await.status, 0);
    assert_eq!(git(&person, &["remote"]), "\"\"\n");
}

#[tokio::test]
async fn help_lists_the_commands_and_their_options() {
    let person = Person::new();
    let help = person.flynn("help").await;
    assert!(
        help.status == 0 && help.out.contains("\n    scale ") && help.out.ends_with("\n\n"),
        "{}",
        help.out
    );
    assert_eq!(person.flynn("help scale").await, person.flynn("scale --help").await);
    assert!(person.flynn("scale -h").await.out.contains("--no-wait"));
    let json: serde_json::Value =
        serde_json::from_str(&person.flynn("help --json").await.out).unwrap();
    assert!(json["ps"].as_str().unwrap().contains("flynn ps [-a]"));
    let unknown = "2| zz is not a flynn command. See 'flynn help'";
    Person::check(&person.flynn("help zz").await, 1, &[unknown]);
    let usage =
        ["1| usage: flynn env [-t <proc>]", "1|        flynn env set [-t <proc>] <var>=<val>..."];
    let said = person.flynn("env set").await;
    assert!(
        said.status == 1
            && said.out.starts_with(&usage.map(|line| line[3..].to_owned() + "\n").concat()),
        "{said:?}"
    );
}
